// The metadata item's bytes: FlatBuffer "CDNM" (spec/format.md, section 14).
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/metadata.hpp"

namespace cdna {

// Checks M2..M5. Values of unknown types are left out.
Result<Metadata> parse_metadata(std::span<const std::byte> bytes);

// Errors: bad_argument (a key is empty, or text is not UTF-8), limit (over 64 MiB).
Result<std::vector<std::byte>> append_metadata(const Metadata& metadata);

}  // namespace cdna
