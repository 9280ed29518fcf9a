// The codebook kernels for AVX2: cells, fetched by gathers from the first-level cache.
#include <immintrin.h>

#define CDNA_VECTOR_BYTES 32
#include "kernels/cpu/codebook_vectors.h"

namespace {

CDNA_INLINE F32 gather_floats(const float* table, I32 numbers) {
  return (F32)_mm256_i32gather_ps(table, (__m256i)numbers, 4);
}

CDNA_INLINE I32 gather_codes(const int32_t* table, I32 numbers) {
  return (I32)_mm256_i32gather_epi32(table, (__m256i)numbers, 4);
}

}  // namespace

#include "kernels/cpu/codebook_cells.h"

const cdna_codebook_kernels* cdna_codebook_kernels_avx2(void) { return &kKernels; }
