// Bit-packed codes of 1 to 7 bits to bytes with AVX2: bytes are brought to words that have one code each,
// multiplications shift these by different distances.
#ifndef CDNA_KERNELS_CPU_CODE_BITS_AVX2_H
#define CDNA_KERNELS_CPU_CODE_BITS_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/inline.h"

namespace {

// How 64 codes are cut, 16 in each of four lanes: where the 16 bytes are read from that have them; which of these words
// 0..7 get for codes 0, 2, 4 ... and for codes 1, 3, 5 ... of each half; the factors that then bring bit 0 of the code
// to bit 8.
struct alignas(32) WordCuts {
  uint8_t bytes[2][2][32];
  uint16_t factors[2][16];
  uint8_t begins[4];
};

// A lane's 2 * bits bytes, or as far before as keeps 16 bytes within those of 64 codes, if there are as many.
constexpr uint32_t begin_of_lane(uint32_t bits, uint32_t lane) {
  const uint32_t begin = 2 * bits * lane;
  const uint32_t last = bits == 1 ? begin : 8 * bits - 16;
  return begin < last ? begin : last;
}

constexpr WordCuts word_cuts_of(uint32_t bits) {
  WordCuts cuts = {};
  for (uint32_t lane = 0; lane < 4; ++lane) {
    cuts.begins[lane] = static_cast<uint8_t>(begin_of_lane(bits, lane));
    const uint32_t before = 2 * bits * lane - cuts.begins[lane];
    for (uint32_t code = 0; code < 16; ++code) {
      const uint32_t byte = code * bits / 8;
      const uint32_t last = 2 * bits - 1;  // The byte after it would be another lane's, or another row's.
      uint8_t* const to = cuts.bytes[lane / 2][code % 2] + lane % 2 * 16 + code / 2 * 2;
      to[0] = static_cast<uint8_t>(before + byte);
      to[1] = static_cast<uint8_t>(before + (byte < last ? byte + 1 : last));
      cuts.factors[code % 2][lane % 2 * 8 + code / 2] = static_cast<uint16_t>(1U << (8 - code * bits % 8));
    }
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

// Requires: 1 <= bits <= 7.
struct WordUnpacker {
  explicit CDNA_INLINE WordUnpacker(uint32_t bits) : mask(_mm256_set1_epi8(static_cast<char>((1U << bits) - 1))) {
    const WordCuts& cuts = kWordCuts.of_bits[bits];
    for (int lane = 0; lane < 4; ++lane) begins[lane] = cuts.begins[lane];
    for (int i = 0; i < 2; ++i) {
      for (int half = 0; half < 2; ++half) bytes[half][i] = load_cuts(cuts.bytes[half][i]);
      factors[i] = load_cuts(cuts.factors[i]);
    }
  }

  static CDNA_INLINE __m256i load_cuts(const void* from) {
    return _mm256_load_si256(static_cast<const __m256i*>(from));
  }

  // What unpack() touches: the bytes of 64 codes, but of 1 bit what four loads of 16 do.
  static CDNA_INLINE size_t load_bytes(uint32_t bits) { return bits == 1 ? 22 : size_t{8} * bits; }

  CDNA_INLINE __m256i cut(__m256i packed, const __m256i (&places)[2]) const {
    const __m256i even = _mm256_mullo_epi16(_mm256_shuffle_epi8(packed, places[0]), factors[0]);
    const __m256i odd = _mm256_mullo_epi16(_mm256_shuffle_epi8(packed, places[1]), factors[1]);
    const __m256i odd_only = _mm256_andnot_si256(_mm256_set1_epi16(0xFF), odd);
    return _mm256_and_si256(_mm256_or_si256(_mm256_srli_epi16(even, 8), odd_only), mask);
  }

  // 64 codes.
  CDNA_INLINE void unpack(const uint8_t* codes, __m256i (&out)[2]) const {
    for (int half = 0; half < 2; ++half) {
      const __m128i first = load_lane(codes + begins[2 * half]);
      out[half] = cut(_mm256_set_m128i(load_lane(codes + begins[2 * half + 1]), first), bytes[half]);
    }
  }

  size_t begins[4];
  __m256i mask;
  __m256i bytes[2][2];
  __m256i factors[2];
};

}  // namespace

#endif
