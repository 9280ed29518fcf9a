// Which options of the codebook encoder can be fulfilled, and what follows from them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "cdna/preset.hpp"

namespace cdna {

inline constexpr std::size_t kGroupMax = 128;  // Columns.

// Errors: bad_argument.
Result<void> check_options(const CodebookOptions& options);

// b, per code. Requires: check_options(options).
inline std::uint32_t code_bits(const CodebookOptions& options) {
  return static_cast<std::uint32_t>(std::bit_width(options.entries - 1));
}

}  // namespace cdna
