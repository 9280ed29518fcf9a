// Bit-packed codes (spec/format.md, 8.2) to bytes, for any CPU: 8 codes of b bits are b bytes.
#ifndef CDNA_KERNELS_CPU_CODE_BITS_H
#define CDNA_KERNELS_CPU_CODE_BITS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/inline.h"

namespace {

template <uint32_t kBits>
CDNA_INLINE void unpack_eights(const uint8_t* from, size_t eights, uint8_t* to) {
  for (; eights > 0; --eights, from += kBits, to += 8) {
    uint64_t word = 0;
    __builtin_memcpy(&word, from, kBits);
    for (uint32_t i = 0; i < 8; ++i) to[i] = static_cast<uint8_t>(word >> (i * kBits) & ((1U << kBits) - 1));
  }
}

// Unpacks 8 * eights codes. Requires: 1 <= bits <= 8.
__attribute__((noinline)) inline void unpack_codes(uint32_t bits, const uint8_t* from, size_t eights, uint8_t* to) {
  switch (bits) {
    case 1:
      return unpack_eights<1>(from, eights, to);
    case 2:
      return unpack_eights<2>(from, eights, to);
    case 3:
      return unpack_eights<3>(from, eights, to);
    case 4:
      return unpack_eights<4>(from, eights, to);
    case 5:
      return unpack_eights<5>(from, eights, to);
    case 6:
      return unpack_eights<6>(from, eights, to);
    case 7:
      return unpack_eights<7>(from, eights, to);
    default:
      return unpack_eights<8>(from, eights, to);
  }
}

}  // namespace

#endif
