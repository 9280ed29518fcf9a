// What the codebook loops do with vectors. Included by a file that has defined CDNA_VECTOR_BYTES (vectors.h).
#ifndef CDNA_KERNELS_CPU_CODEBOOK_VECTORS_H
#define CDNA_KERNELS_CPU_CODEBOOK_VECTORS_H

#include "kernels/cpu/codebook.h"
#include "kernels/cpu/vectors.h"

namespace {

constexpr size_t kStep = 32;  // Values that the loops handle at a time.
constexpr int kVectors = kStep / kLanes;

CDNA_INLINE bool any(I32 mask) {
  const I64 wide = (I64)mask;
  int64_t all = 0;
  for (int i = 0; i < kDoubles; ++i) all |= wide[i];
  return all != 0;
}

typedef float F32x8 __attribute__((vector_size(32)));
typedef float F32x4 __attribute__((vector_size(16)));
typedef uint32_t U32x4 __attribute__((vector_size(16)));

// The sum of 16 partial sums: those 8 apart are added, then 4, 2 and 1.
CDNA_INLINE float sum_of(const F32 (&lanes)[16 / kLanes]) {
  F32x8 eight[2];
  copy(eight, lanes, sizeof eight);
  eight[0] += eight[1];
  F32x4 four[2];
  copy(four, eight, sizeof four);
  four[0] += four[1];
  return (four[0][0] + four[0][2]) + (four[0][1] + four[0][3]);
}

CDNA_INLINE uint32_t greatest(U32 lanes) {
  U32x4 fours[kLanes / 4];
  copy(fours, &lanes, sizeof lanes);
  for (int i = 1; i < kLanes / 4; ++i) fours[0] = fours[i] > fours[0] ? fours[i] : fours[0];
  uint32_t most = fours[0][0];
  for (int lane = 1; lane < 4; ++lane) most = fours[0][lane] > most ? fours[0][lane] : most;
  return most;
}

// binary16 to f32, exactly; an infinity or NaN to one.
CDNA_INLINE F32 widen_halves(U16 halves) {
  const U32 bits = __builtin_convertvector(halves, U32);
  const U32 sign = (bits & 0x8000U) << 16;
  const U32 magnitude = bits & 0x7FFFU;
  // Subnormals are fraction * 2^-24; fractions are below 2^10, so signed conversion will do.
  const F32 small = __builtin_convertvector((I32)(magnitude & 0x3FFU), F32) * 0x1p-24F;
  const U32 shifted = magnitude << 13;
  const U32 normal = shifted + (112U << 23);
  const U32 special = shifted | 0x7F800000U;
  const U32 wide = magnitude < 0x400U ? (U32)small : magnitude >= 0x7C00U ? special : normal;
  return (F32)(wide | sign);
}

}  // namespace

#endif
