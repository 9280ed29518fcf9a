// Bit-packed codes of 5 to 7 bits to bytes with AVX2: bytes are brought to words that have one code each,
// multiplications shift these by different distances.
#ifndef CDNA_KERNELS_CPU_CODE_BITS_AVX2_H
#define CDNA_KERNELS_CPU_CODE_BITS_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/inline.h"

namespace {

// For 16 codes: which bytes words 0..7 get for codes 0, 2, 4 ... and for codes 1, 3, 5 ..., and the factors that then
// bring bit 0 of the code to bit 8.
struct alignas(16) WordCuts {
  uint8_t bytes[2][16];
  uint16_t factors[2][8];
};

constexpr WordCuts word_cuts_of(uint32_t bits) {
  WordCuts cuts = {};
  for (uint32_t code = 0; code < 16; ++code) {
    const uint32_t bit = code * bits;
    const uint32_t last = 2 * bits - 1;  // The byte after it would be another row's.
    cuts.bytes[code % 2][code / 2 * 2] = static_cast<uint8_t>(bit / 8);
    cuts.bytes[code % 2][code / 2 * 2 + 1] = static_cast<uint8_t>(bit / 8 < last ? bit / 8 + 1 : last);
    cuts.factors[code % 2][code / 2] = static_cast<uint16_t>(1U << (8 - bit % 8));
  }
  return cuts;
}

struct WordCutTable {
  WordCuts of_bits[8];
};

constexpr WordCutTable word_cut_table() {
  WordCutTable table = {};
  for (uint32_t bits = 1; bits < 8; ++bits) table.of_bits[bits] = word_cuts_of(bits);
  return table;
}

constexpr WordCutTable kWordCuts = word_cut_table();

CDNA_INLINE __m128i load_lane(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }

// Requires: 5 <= bits <= 7 (so that of 64 codes only the last 16 have not 16 bytes from their first on).
struct WordUnpacker {
  explicit CDNA_INLINE WordUnpacker(uint32_t bits)
      : lane_bytes(2 * bits), mask(_mm256_set1_epi8(static_cast<char>((1U << bits) - 1))) {
    const WordCuts& cuts = kWordCuts.of_bits[bits];
    const __m256i before_last = _mm256_set_m128i(_mm_set1_epi8(static_cast<char>(16 - 2 * bits)), _mm_setzero_si128());
    for (int i = 0; i < 2; ++i) {
      bytes[0][i] = _mm256_broadcastsi128_si256(load_lane(cuts.bytes[i]));
      bytes[1][i] = _mm256_add_epi8(bytes[0][i], before_last);
      factors[i] = _mm256_broadcastsi128_si256(load_lane(cuts.factors[i]));
    }
  }

  CDNA_INLINE __m256i cut(__m256i packed, const __m256i (&places)[2]) const {
    const __m256i even = _mm256_mullo_epi16(_mm256_shuffle_epi8(packed, places[0]), factors[0]);
    const __m256i odd = _mm256_mullo_epi16(_mm256_shuffle_epi8(packed, places[1]), factors[1]);
    const __m256i odd_only = _mm256_andnot_si256(_mm256_set1_epi16(0xFF), odd);
    return _mm256_and_si256(_mm256_or_si256(_mm256_srli_epi16(even, 8), odd_only), mask);
  }

  // 64 codes.
  CDNA_INLINE void unpack(const uint8_t* codes, __m256i (&out)[2]) const {
    out[0] = cut(_mm256_set_m128i(load_lane(codes + lane_bytes), load_lane(codes)), bytes[0]);
    out[1] = cut(_mm256_set_m128i(load_lane(codes + 4 * lane_bytes - 16), load_lane(codes + 2 * lane_bytes)), bytes[1]);
  }

  size_t lane_bytes;
  __m256i mask;
  __m256i bytes[2][2];
  __m256i factors[2];
};

}  // namespace

#endif
