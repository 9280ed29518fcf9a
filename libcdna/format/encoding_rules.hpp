// Which planes an encoding consists of: rules U1..U6, E1, E2, E7 (spec/format.md, section 13).
#pragma once

#include <string_view>

#include "cdna/error.hpp"
#include "libcdna/format/footer.hpp"

namespace cdna {

inline constexpr std::string_view kExactEncoding = "cdna.exact";
inline constexpr std::string_view kCodebookEncoding = "cdna.codebook";

// Checks U1..U6 for a tensor, U4 and U5 for other items: whether this library can decode it.
Result<void> check_supported(const ItemView& view);

inline bool supported(const ItemView& view) { return check_supported(view).has_value(); }

// Checks E1, or E2 and E7. Requires: a supported tensor.
Result<void> check_encoding(const ItemView& view);

// Whether filter 1 is known in plane 0, under zstd (spec/format.md, 12.1). Requires: a tensor that obeys E1, if it is
// supported.
bool allows_byte_planes(const ItemView& view);

// How many elements a code of the tensor stands for: 1, 2 or 4; 1 of other encodings.
inline std::uint32_t vector_of(const ItemView& view) { return view.planes[0].vector(); }

// The plane of that role, or nullptr.
const wire::Plane* find_plane(const ItemView& view, PlaneRole role);

}  // namespace cdna
