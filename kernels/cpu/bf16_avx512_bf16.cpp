// The bf16 kernels for AVX-512 with BF16; with AMX all but multiply() is the same.
#include <immintrin.h>

#define CDNA_VECTOR_BYTES 64
#include "kernels/cpu/bf16_vectors.h"

namespace {

using Pairs = U32;
CDNA_INLINE Pairs pairs_of(U32 words) { return words; }
CDNA_INLINE F32 dot(F32 sum, Pairs a, Pairs b) { return (F32)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b); }

CDNA_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return (F32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }

// Of 32 vectors 24 are sums, 4 of b, one of a.
constexpr size_t kTileRows = 6;
constexpr size_t kTileVectors = 4;

// The instruction puts the numbers of one operand behind those of the other. Subnormal results become 0.
CDNA_INLINE U32 round_pairs(F32 first, F32 second) {
  const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
  const __m512i numbers = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return (U32)_mm512_permutexvar_epi16(numbers, halves);
}

}  // namespace

#include "kernels/cpu/bf16_avx512_entries.h"
#include "kernels/cpu/bf16_body.h"
#include "kernels/cpu/bf16_multiply_tiles.h"

namespace {

constexpr cdna_bf16_kernels kTileKernels = {dot_codes, dot_values, decode, round, cdna_bf16_multiply_amx};

}  // namespace

const cdna_bf16_kernels* cdna_bf16_kernels_avx512_bf16(void) { return &kKernels; }
const cdna_bf16_kernels* cdna_bf16_tile_kernels_avx512_bf16(void) { return &kTileKernels; }
