// Codes to bytes, and bytes looked up in tables of byte planes, by the permutations of AVX-512 VBMI.
#ifndef CDNA_KERNELS_CPU_CODE_PLANES_AVX512_H
#define CDNA_KERNELS_CPU_CODE_PLANES_AVX512_H

#include <immintrin.h>

#include "kernels/cpu/row_steps.h"

namespace {

struct alignas(64) ByteNumbers {
  uint8_t of[64];
};

// Byte 8 g + e of these is byte g * bits + e of 64 codes: each group of 8 codes has a quadword of its own.
constexpr ByteNumbers quadwords_of(uint32_t bits) {
  ByteNumbers numbers = {};
  for (uint32_t i = 0; i < 64; ++i) numbers.of[i] = static_cast<uint8_t>(i / 8 * bits + (i % 8 < bits ? i % 8 : 0));
  return numbers;
}

// The first bit of each code in its quadword.
constexpr ByteNumbers shifts_of(uint32_t bits) {
  ByteNumbers numbers = {};
  for (uint32_t i = 0; i < 64; ++i) numbers.of[i] = static_cast<uint8_t>(i % 8 * bits);
  return numbers;
}

constexpr ByteNumbers kQuadwords[9] = {quadwords_of(0), quadwords_of(1), quadwords_of(2),
                                       quadwords_of(3), quadwords_of(4), quadwords_of(5),
                                       quadwords_of(6), quadwords_of(7), quadwords_of(8)};
constexpr ByteNumbers kShifts[9] = {shifts_of(0), shifts_of(1), shifts_of(2), shifts_of(3), shifts_of(4),
                                    shifts_of(5), shifts_of(6), shifts_of(7), shifts_of(8)};

// How many entries a look-up tells apart: 256, 128, or 64 for codes of at most 6 bits (the table repeats).
template <uint32_t kIndexBits>
struct ByteCodes {
  explicit CDNA_INLINE ByteCodes(uint32_t bits)
      : mask(~uint64_t{0} >> (64 - 8 * bits)),
        quadwords(_mm512_load_si512(kQuadwords[bits].of)),
        shifts(_mm512_load_si512(kShifts[bits].of)) {}

  // 64 codes, one per byte, with any bits above.
  CDNA_INLINE __m512i load(const uint8_t* codes) const {
    if constexpr (kIndexBits == 8) return _mm512_loadu_si512(codes);
    const __m512i bytes = _mm512_maskz_loadu_epi8(mask, codes);
    return _mm512_multishift_epi64_epi8(shifts, _mm512_permutexvar_epi8(quadwords, bytes));
  }

  uint64_t mask;  // A step's own bytes: memory behind them may not be there.
  __m512i quadwords;
  __m512i shifts;
};

template <uint32_t kIndexBits>
struct Plane {
  static constexpr uint32_t kVectors = 1U << (kIndexBits - 6);

  explicit CDNA_INLINE Plane(const uint8_t (&plane)[256]) {
    for (uint32_t i = 0; i < kVectors; ++i) entries[i] = _mm512_loadu_si512(plane + 64 * i);
  }

  CDNA_INLINE __m512i look_up(__m512i codes) const {
    if constexpr (kIndexBits == 6) return _mm512_permutexvar_epi8(codes, entries[0]);
    if constexpr (kIndexBits == 7) return _mm512_permutex2var_epi8(entries[0], codes, entries[1]);
    if constexpr (kIndexBits == 8)
      return _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), _mm512_permutex2var_epi8(entries[0], codes, entries[1]),
                                    _mm512_permutex2var_epi8(entries[2], codes, entries[3]));
  }

  __m512i entries[kVectors];
};

// One scale per 32 columns. Of 64 columns: lanes 0 to 7 have the first 32. Of 128: four lanes have 32.
CDNA_INLINE __m512 scales_of_64(const float* scales) {
  double both;
  __builtin_memcpy(&both, scales, sizeof both);
  const __m512i numbers = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
  return _mm512_permutevar_ps(_mm512_castpd_ps(_mm512_set1_pd(both)), numbers);
}

CDNA_INLINE __m512 scales_of_128(const float* scales) {
  const __m512i numbers = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  return _mm512_permutevar_ps(_mm512_broadcast_f32x4(_mm_loadu_ps(scales)), numbers);
}

}  // namespace

#endif
