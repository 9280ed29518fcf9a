// Vectors of bf16 numbers. Included by a file that has defined CDNA_VECTOR_BYTES: 16, 32 or 64.
#ifndef CDNA_KERNELS_CPU_BF16_VECTORS_H
#define CDNA_KERNELS_CPU_BF16_VECTORS_H

#include "kernels/cpu/matmul_vectors.h"
#include "kernels/cpu/row_steps.h"

namespace {

constexpr size_t kWords = CDNA_VECTOR_BYTES / 2;

template <bool kNibbles>
constexpr size_t kStepVectors = kStepColumns<kNibbles> / kWords;
// 32 words have at most two scales, and each next 32 of a step have the same.
constexpr size_t kScaleVectors = 32 / kWords;

typedef uint16_t HalfU16 __attribute__((vector_size(CDNA_VECTOR_BYTES / 2)));

// Of pairs in 32 bits, the first one below.
CDNA_INLINE F32 first_of(U32 pairs) { return (F32)(pairs << 16); }
CDNA_INLINE F32 second_of(U32 pairs) { return (F32)(pairs & 0xFFFF0000U); }

// The nearest bf16, ties to even, in the upper half; a NaN stays one. Below it is anything.
CDNA_INLINE U32 rounded(F32 v) {
  const U32 bits = (U32)v;
  const U32 nearest = bits + ((bits >> 16 & 1U) + 0x7FFFU);
  const I32 is_nan = v != v;
  return is_nan ? bits | 0x400000U : nearest;
}

}  // namespace

#endif
