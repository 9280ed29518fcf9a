// Codes to bytes, and bytes looked up in tables of byte planes, by the permutations of AVX-512 VBMI. Included
// by a file that has defined CDNA_VECTOR_BYTES (vectors.h).
#ifndef CDNA_KERNELS_CPU_CODE_PLANES_AVX512_H
#define CDNA_KERNELS_CPU_CODE_PLANES_AVX512_H

#include <immintrin.h>

#include "kernels/cpu/code_bits_avx512.h"
#include "kernels/cpu/vectors.h"

namespace {

// 64 codes, one per byte, with any bits above: of 8 bits, of 7, or of fewer.
template <uint32_t kIndexBits>
struct ByteCodes {
  explicit CDNA_INLINE ByteCodes(uint32_t bits) : unpacker(bits % 8, kCutsInOrder) {}

  CDNA_INLINE __m512i load(const uint8_t* codes) const {
    if constexpr (kIndexBits == 8) return _mm512_loadu_si512(codes);
    return unpacker.unpack(codes);
  }

  CodeUnpacker unpacker;
};

// The entries of a byte plane, by the low bits of 64 codes.
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
  return _mm512_permutexvar_ps(numbers, _mm512_castps128_ps512(_mm_loadu_ps(scales)));
}

template <bool kNibbles>
CDNA_INLINE F32 lane_scales(const float* scales, size_t) {
  return (F32)(kNibbles ? scales_of_128(scales) : scales_of_64(scales));
}

}  // namespace

#endif
