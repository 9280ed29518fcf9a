// The codebook kernels for AVX-512 (F, BW): midpoints and entries stay in registers, and permutations look them up.
//
// A search walks the tree of midpoints with a node number that grows by one bit per level: root 1, then 2n or 2n + 1.
// Level l has 2^l midpoints, at tree[2^l] ...; the low l bits of the node are the place within the level, and
// permutations ignore the bits above them. 256 entries: 15 permutations and 7 blends for 16 values.
#include <immintrin.h>

#define CDNA_VECTOR_BYTES 64
#include "kernels/cpu/codebook_vectors.h"

namespace {

template <uint32_t kBits>
struct Entries {
  static constexpr uint8_t kMask = static_cast<uint8_t>((1U << kBits) - 1);

  explicit CDNA_INLINE Entries(const cdna_codebook& codebook) {
    // The first four levels together are 15 midpoints, from tree[1] on.
    top = _mm512_loadu_ps(codebook.tree);
    if constexpr (kBits > 4) level4 = _mm512_loadu_ps(codebook.tree + 16);
    if constexpr (kBits > 5) load_vectors(level5, codebook.tree + 32);
    if constexpr (kBits > 6) load_vectors(level6, codebook.tree + 64);
    if constexpr (kBits > 7) load_vectors(level7, codebook.tree + 128);
    for (uint32_t i = 0; i < kVectors; ++i) halves[i] = _mm512_loadu_si512(codebook.halves + 32 * i);
  }

  template <size_t kCount>
  static CDNA_INLINE void load_vectors(__m512 (&to)[kCount], const float* from) {
    for (size_t i = 0; i < kCount; ++i) to[i] = _mm512_loadu_ps(from + 16 * i);
  }

  static CDNA_INLINE __m512i child(__m512i node, __m512 v, __m512 midpoint) {
    const __m512i left = _mm512_add_epi32(node, node);
    return _mm512_mask_add_epi32(left, _mm512_cmp_ps_mask(v, midpoint, _CMP_GT_OQ), left, _mm512_set1_epi32(1));
  }

  // The place's bit 5 chooses between two vectors of 32.
  static CDNA_INLINE __m512 look_up_64(const __m512* level, __m512i node) {
    const __m512 low = _mm512_permutex2var_ps(level[0], node, level[1]);
    const __m512 high = _mm512_permutex2var_ps(level[2], node, level[3]);
    return _mm512_mask_blend_ps(_mm512_test_epi32_mask(node, _mm512_set1_epi32(32)), low, high);
  }

  CDNA_INLINE __m512i nearest_of(__m512 v) const {
    __m512i node = _mm512_set1_epi32(1);
    for (uint32_t level = 0; level < (kBits < 4 ? kBits : 4); ++level)
      node = child(node, v, _mm512_permutexvar_ps(node, top));
    if constexpr (kBits > 4) node = child(node, v, _mm512_permutexvar_ps(node, level4));
    if constexpr (kBits > 5) node = child(node, v, _mm512_permutex2var_ps(level5[0], node, level5[1]));
    if constexpr (kBits > 6) node = child(node, v, look_up_64(level6, node));
    if constexpr (kBits > 7) {
      const __m512 low = look_up_64(level7, node);
      const __m512 high = look_up_64(level7 + 4, node);
      node = child(node, v, _mm512_mask_blend_ps(_mm512_test_epi32_mask(node, _mm512_set1_epi32(64)), low, high));
    }
    return node;
  }

  CDNA_INLINE void nearest(const F32 (&v)[2], I32 (&codes)[2]) const {
    for (int i = 0; i < 2; ++i) codes[i] = (I32)nearest_of((__m512)v[i]);
  }

  // 32 entries as binary16, by the low bits of 16-bit numbers.
  CDNA_INLINE __m512i look_up(__m512i numbers) const {
    if constexpr (kBits <= 5) return _mm512_permutexvar_epi16(numbers, halves[0]);
    if constexpr (kBits == 6) return _mm512_permutex2var_epi16(halves[0], numbers, halves[1]);
    if constexpr (kBits == 7) return look_up_128(halves, numbers);
    if constexpr (kBits == 8) {
      const __m512i low = look_up_128(halves, numbers);
      const __m512i high = look_up_128(halves + 4, numbers);
      return _mm512_mask_blend_epi16(_mm512_test_epi16_mask(numbers, _mm512_set1_epi16(128)), low, high);
    }
  }

  static CDNA_INLINE __m512i look_up_128(const __m512i* vectors, __m512i numbers) {
    const __m512i low = _mm512_permutex2var_epi16(vectors[0], numbers, vectors[1]);
    const __m512i high = _mm512_permutex2var_epi16(vectors[2], numbers, vectors[3]);
    return _mm512_mask_blend_epi16(_mm512_test_epi16_mask(numbers, _mm512_set1_epi16(64)), low, high);
  }

  CDNA_INLINE void widen(__m512i numbers, F32 (&out)[2]) const {
    const __m512i found = look_up(numbers);
    out[0] = (F32)_mm512_cvtph_ps(_mm512_castsi512_si256(found));
    out[1] = (F32)_mm512_cvtph_ps(_mm512_extracti64x4_epi64(found, 1));
  }

  CDNA_INLINE void values(const I32 (&codes)[2], F32 (&out)[2]) const {
    const __m256i low = _mm512_cvtepi32_epi16((__m512i)codes[0]);
    const __m256i high = _mm512_cvtepi32_epi16((__m512i)codes[1]);
    __m512i numbers = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    // One vector has 32 entries: it would not ignore all of the node above a place of fewer than 5 bits.
    if constexpr (kBits < 5) numbers = _mm512_and_si512(numbers, _mm512_set1_epi16(kMask));
    widen(numbers, out);
  }

  CDNA_INLINE void decode(const uint8_t* codes, F32 (&out)[2]) const {
    widen(_mm512_cvtepu8_epi16(load<__m256i>(codes)), out);
  }

  static constexpr uint32_t kVectors = kBits > 5 ? 1U << (kBits - 5) : 1;
  __m512 top;
  __m512 level4;
  __m512 level5[2];
  __m512 level6[4];
  __m512 level7[8];
  __m512i halves[kVectors];
};

}  // namespace

#include "kernels/cpu/codebook_body.h"

const cdna_codebook_kernels* cdna_codebook_kernels_avx512(void) { return &kKernels; }
