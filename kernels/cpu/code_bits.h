// Bit-packed codes (spec/format.md, 8.2) to bytes, for any CPU: 8 codes of b bits are b bytes.
#ifndef CDNA_KERNELS_CPU_CODE_BITS_H
#define CDNA_KERNELS_CPU_CODE_BITS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/inline.h"

namespace {

// Codes of kBits bits at every `period` bits of a word: the lower half of each pair stays, the upper one moves up.
template <uint32_t kBits>
CDNA_INLINE uint64_t spread_pairs(uint64_t word, uint32_t period, uint64_t ones) {
  const uint64_t lower = ones * ((uint64_t{1} << kBits) - 1);
  return (word & lower) | (word & lower << kBits) << (period / 2 - kBits);
}

// 8 codes to 8 bytes, by halves: 4 to each dword, 2 to each word, 1 to each byte.
template <uint32_t kBits>
CDNA_INLINE uint64_t spread_eight(uint64_t word) {
  if constexpr (kBits == 8) return word;
  word = spread_pairs<4 * kBits>(word, 64, 1);
  word = spread_pairs<2 * kBits>(word, 32, 0x0000000100000001U);
  return spread_pairs<kBits>(word, 16, 0x0001000100010001U);
}

template <uint32_t kBits>
CDNA_INLINE void unpack_eights(const uint8_t* from, size_t eights, uint8_t* to) {
  for (; eights > 0; --eights, from += kBits, to += 8) {
    uint64_t word = 0;
    __builtin_memcpy(&word, from, kBits);
    word = spread_eight<kBits>(word);
    __builtin_memcpy(to, &word, sizeof word);
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
