// Bit-packed codes to bytes with VBMI: one permutation brings the bytes of 64 codes to their places, one multishift
// cuts them into codes. Bits above a code are those of its neighbours.
#ifndef CDNA_KERNELS_CPU_CODE_BITS_AVX512_H
#define CDNA_KERNELS_CPU_CODE_BITS_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/inline.h"

namespace {

// Which four codes (4 n .. 4 n + 3) each dword of a vector of 64 gets.
struct CodeOrder {
  uint8_t fours[16];
};

constexpr CodeOrder kCodesInOrder = {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};
// Four dwords of each 128-bit lane go to four vectors when bytes are unpacked to dwords: then these are in natural
// order, or in CDNA_ORDER_BYTES.
constexpr CodeOrder kCodesForDwords = {{0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15}};
constexpr CodeOrder kCodesForDwordsAsBytes = {{0, 8, 2, 10, 1, 9, 3, 11, 4, 12, 6, 14, 5, 13, 7, 15}};

CDNA_INLINE __m512i ordered_dwords(const CodeOrder& order) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(order.fours)));
}

struct alignas(64) CodeCuts {
  uint8_t bytes[64];
  uint8_t shifts[64];
};

// Requires: bits < 8, so that four codes, from any bit of a byte on, are within four bytes.
constexpr CodeCuts cuts_of(uint32_t bits, const CodeOrder& order) {
  CodeCuts cuts = {};
  for (uint32_t i = 0; i < 64; ++i) {
    const uint32_t first_bit = 4 * order.fours[i / 4] * bits;
    cuts.bytes[i] = static_cast<uint8_t>(first_bit / 8 + i % 4);
    cuts.shifts[i] = static_cast<uint8_t>(i / 4 % 2 * 32 + first_bit % 8 + i % 4 * bits);
  }
  return cuts;
}

struct CodeCutTable {
  CodeCuts of_bits[8];
};

constexpr CodeCutTable cut_table(const CodeOrder& order) {
  CodeCutTable table = {};
  for (uint32_t bits = 1; bits < 8; ++bits) table.of_bits[bits] = cuts_of(bits, order);
  return table;
}

constexpr CodeCutTable kCutsInOrder = cut_table(kCodesInOrder);
constexpr CodeCutTable kCutsForDwordsAsBytes = cut_table(kCodesForDwordsAsBytes);

// 64 codes of fewer than 8 bits. Touches no more than their 8 * bits bytes.
struct CodeUnpacker {
  CDNA_INLINE CodeUnpacker(uint32_t bits, const CodeCutTable& table)
      : bytes(_mm512_load_si512(table.of_bits[bits].bytes)),
        shifts(_mm512_load_si512(table.of_bits[bits].shifts)),
        mask((uint64_t{1} << (8 * bits)) - 1) {}

  CDNA_INLINE __m512i unpack(const uint8_t* codes) const {
    return _mm512_multishift_epi64_epi8(shifts, _mm512_permutexvar_epi8(bytes, _mm512_maskz_loadu_epi8(mask, codes)));
  }

  __m512i bytes;
  __m512i shifts;
  __mmask64 mask;
};

}  // namespace

#endif
