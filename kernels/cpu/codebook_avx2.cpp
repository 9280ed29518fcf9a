// The codebook kernels for AVX2: cells, fetched by gathers from the first-level cache.
#include <immintrin.h>

#include "kernels/cpu/codebook_vectors.h"

namespace {

CDNA_INLINE F32 gather_floats(const float* table, I32 numbers) {
  __m256i half[2];
  copy(half, &numbers, sizeof half);
  const __m256 found[2] = {_mm256_i32gather_ps(table, half[0], 4), _mm256_i32gather_ps(table, half[1], 4)};
  return load<F32>(found);
}

CDNA_INLINE I32 gather_codes(const int32_t* table, I32 numbers) {
  __m256i half[2];
  copy(half, &numbers, sizeof half);
  const __m256i found[2] = {_mm256_i32gather_epi32(table, half[0], 4), _mm256_i32gather_epi32(table, half[1], 4)};
  return load<I32>(found);
}

}  // namespace

#include "kernels/cpu/codebook_cells.h"

const cdna_codebook_kernels* cdna_codebook_kernels_avx2(void) { return &kKernels; }
