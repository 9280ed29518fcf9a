// Codes of fewer than 8 bits as bit strings (spec/format.md, 8.2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace cdna {

// Writes ceil(codes * bits / 8) bytes: code i in bits [i * bits, (i + 1) * bits), the lowest bit first; zeros after the
// last. Requires: bits 1..8, codes below 2^bits.
void pack_codes(std::span<const std::uint8_t> codes, std::uint32_t bits, std::byte* out);

}  // namespace cdna
