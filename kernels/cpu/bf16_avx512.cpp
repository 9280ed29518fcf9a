// The bf16 kernels for AVX-512 without BF16: products and sums of f32.
#include <immintrin.h>

#define CDNA_VECTOR_BYTES 64
#include "kernels/cpu/bf16_vectors.h"

namespace {

// Of 32 vectors 18 are sums, 6 of b, two of a.
constexpr size_t kTileRows = 6;
constexpr size_t kTileVectors = 3;

CDNA_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return (F32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }

}  // namespace

#include "kernels/cpu/bf16_split.h"
// Behind it, for it uses round_pairs().
#include "kernels/cpu/bf16_avx512_entries.h"
#include "kernels/cpu/bf16_body.h"

const cdna_bf16_kernels* cdna_bf16_kernels_avx512(void) { return &kKernels; }
