// Codes to bf16 by the permutations of AVX-512 (F, BW, VL, DQ, VBMI). Included by a file that includes bf16_vectors.h
// and defines round_pairs(first, second): the vector of those f32 as pairs of bf16.
#include <immintrin.h>

#include "kernels/cpu/bf16_vectors.h"
#include "kernels/cpu/code_planes_avx512.h"

namespace {

// Codes as bytes: two planes are looked up and put together, which is CDNA_ORDER_BYTES.
template <uint32_t kIndexBits>
struct ByteEntries {
  static constexpr bool kNibbles = false;

  explicit CDNA_INLINE ByteEntries(const cdna_lookup& table)
      : from(table),
        shape(shape_of<kNibbles>(table.bits, 8 * table.bits)),
        bytes(table.bits),
        low(table.bf16_planes[0]),
        high(table.bf16_planes[1]) {}

  CDNA_INLINE void words(const uint8_t* codes, U32* out) const {
    const __m512i numbers = bytes.load(codes);
    const __m512i lows = low.look_up(numbers);
    const __m512i highs = high.look_up(numbers);
    out[0] = (U32)_mm512_unpacklo_epi8(lows, highs);
    out[1] = (U32)_mm512_unpackhi_epi8(lows, highs);
  }

  // Of four planes of f32 the upper and the lower half are put together likewise. Their first 16 words have the first
  // scale.
  CDNA_INLINE void scaled_words(const uint8_t* codes, const float* scales, U32* out) const {
    const __m512i numbers = bytes.load(codes);
    __m512i planes[4];
    for (int i = 0; i < 4; ++i) planes[i] = Plane<kIndexBits>(from.planes[i]).look_up(numbers);
    const F32 lanes = lane_scales<false>(scales, 0);
    out[0] =
        scaled_pairs(_mm512_unpacklo_epi8(planes[0], planes[1]), _mm512_unpacklo_epi8(planes[2], planes[3]), lanes);
    out[1] =
        scaled_pairs(_mm512_unpackhi_epi8(planes[0], planes[1]), _mm512_unpackhi_epi8(planes[2], planes[3]), lanes);
  }

  static CDNA_INLINE U32 scaled_pairs(__m512i low_words, __m512i high_words, F32 lanes) {
    const __m512i odd = _mm512_set1_epi32(static_cast<int32_t>(0xFFFF0000U));
    const __m512i first = _mm512_mask_blend_epi16(0xAAAAAAAAU, low_words, _mm512_slli_epi32(high_words, 16));
    const __m512i second = _mm512_or_si512(_mm512_and_si512(high_words, odd), _mm512_srli_epi32(low_words, 16));
    return round_pairs((F32)first * lanes, (F32)second * lanes);
  }

  const cdna_lookup& from;
  StepShape shape;
  ByteCodes<kIndexBits> bytes;
  Plane<kIndexBits> low;
  Plane<kIndexBits> high;
};

// Codes of 4 bits in words of four, each looked up at the lower end of its word: CDNA_ORDER_WORD_NIBBLES.
struct NibbleEntries {
  static constexpr bool kNibbles = true;

  explicit CDNA_INLINE NibbleEntries(const cdna_lookup& table) : shape(shape_of<kNibbles>(4, 64)) {
    const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(table.bf16_planes[0]));
    const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(table.bf16_planes[1]));
    entries = _mm512_or_si512(_mm512_cvtepu8_epi16(low), _mm512_slli_epi16(_mm512_cvtepu8_epi16(high), 8));
    values = _mm512_loadu_ps(table.values);
  }

  // A permutation takes the low 5 bits of a word: 32 entries, which are 16 repeated.
  CDNA_INLINE void words(const uint8_t* codes, U32* out) const {
    const __m512i four = _mm512_loadu_si512(codes);
    out[0] = (U32)_mm512_permutexvar_epi16(four, entries);
    out[1] = (U32)_mm512_permutexvar_epi16(_mm512_srli_epi16(four, 4), entries);
    out[2] = (U32)_mm512_permutexvar_epi16(_mm512_srli_epi16(four, 8), entries);
    out[3] = (U32)_mm512_permutexvar_epi16(_mm512_srli_epi16(four, 12), entries);
  }

  CDNA_INLINE void scaled_words(const uint8_t* codes, const float* scales, U32* out) const {
    const __m512i eight = _mm512_loadu_si512(codes);
    const F32 lanes = lane_scales<true>(scales, 0);
    for (uint32_t i = 0; i < 4; ++i) {
      const __m512 first = _mm512_permutexvar_ps(_mm512_srli_epi32(eight, 4 * i), values);
      const __m512 second = _mm512_permutexvar_ps(_mm512_srli_epi32(eight, 16 + 4 * i), values);
      out[i] = round_pairs((F32)first * lanes, (F32)second * lanes);
    }
  }

  StepShape shape;
  __m512i entries;
  __m512 values;
};

}  // namespace
