// Eight codes at a time are `bits` whole bytes.
#include "libcdna/encode/bit_packing.hpp"

#include <algorithm>
#include <cstring>

namespace cdna {
namespace {

// Eight codes, one per byte, pushed together: neighbours, then pairs, then fours.
std::uint64_t pushed_together(std::uint64_t codes, std::uint32_t bits) {
  const std::uint32_t gap = 8 - bits;
  codes = (codes & 0x00FF00FF00FF00FFULL) | (codes & 0xFF00FF00FF00FF00ULL) >> gap;
  codes = (codes & 0x0000FFFF0000FFFFULL) | (codes & 0xFFFF0000FFFF0000ULL) >> 2 * gap;
  return (codes & 0x00000000FFFFFFFFULL) | (codes & 0xFFFFFFFF00000000ULL) >> 4 * gap;
}

std::uint64_t load_codes(const std::uint8_t* codes, std::size_t count) {
  std::uint64_t value = 0;
  std::memcpy(&value, codes, count);
  return value;
}

}  // namespace

void pack_codes(std::span<const std::uint8_t> codes, std::uint32_t bits, std::byte* out) {
  std::size_t i = 0;
  // Whole words are stored as long as they fit: what they write beyond their own bytes, the next ones overwrite.
  for (; (codes.size() - i) * bits >= 64; i += 8, out += bits) {
    const std::uint64_t packed = pushed_together(load_codes(codes.data() + i, 8), bits);
    std::memcpy(out, &packed, sizeof packed);
  }
  for (; i < codes.size(); i += 8) {
    const std::size_t count = std::min<std::size_t>(8, codes.size() - i);
    const std::uint64_t packed = pushed_together(load_codes(codes.data() + i, count), bits);
    const std::size_t bytes = (count * bits + 7) / 8;
    std::memcpy(out, &packed, bytes);
    out += bytes;
  }
}

}  // namespace cdna
