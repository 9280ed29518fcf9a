// fma with one rounding from operations in f64, for CPUs without it. Included by a file that includes vectors.h.
#ifndef CDNA_KERNELS_CPU_F32_FMA_H
#define CDNA_KERNELS_CPU_F32_FMA_H

#include "kernels/cpu/vectors.h"

namespace {

typedef uint64_t U64 __attribute__((vector_size(CDNA_VECTOR_BYTES)));

// a * b + c, rounded to odd: the nearest number below or above with an odd fraction if the result is not exact. The
// product of two f32 is exact in f64. Rounding that to f32 is then as good as rounding once, since f64 has more than
// two bits more (Boldo and Melquiond, Emulation of FMA and correctly rounded sums, 2008).
CDNA_INLINE F64 multiply_add_to_odd(F64 a, F64 b, F64 c) {
  const F64 product = a * b;
  const F64 sum = product + c;
  // What the sum lost, exactly (Knuth's TwoSum); NaN where the sum is not finite.
  const F64 from_c = sum - product;
  const F64 error = (product - (sum - from_c)) + (c - from_c);
  const U64 inexact = (U64)((error < 0.0) | (error > 0.0)) & 1U;
  // Towards zero, if the sum was rounded away from it; then odd.
  const U64 towards_zero = inexact & (((U64)error ^ (U64)sum) >> 63U);
  return (F64)(((U64)sum - towards_zero) | inexact);
}

__attribute__((noinline)) F32 emulated_multiply_add(F32 a, F32 b, F32 c) {
  HalfF32 in[3][2];
  copy(in[0], &a, sizeof a);
  copy(in[1], &b, sizeof b);
  copy(in[2], &c, sizeof c);
  HalfF32 out[2];
  for (int i = 0; i < 2; ++i) {
    const F64 wide = multiply_add_to_odd(__builtin_convertvector(in[0][i], F64), __builtin_convertvector(in[1][i], F64),
                                         __builtin_convertvector(in[2][i], F64));
    out[i] = __builtin_convertvector(wide, HalfF32);
  }
  F32 joined;
  copy(&joined, out, sizeof joined);
  return joined;
}

}  // namespace

#endif
