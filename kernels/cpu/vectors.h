// Vectors of a register's width in GNU's notation, and how they are loaded and stored. Included by a file that has
// defined CDNA_VECTOR_BYTES: 16, 32, 64.
#ifndef CDNA_KERNELS_CPU_VECTORS_H
#define CDNA_KERNELS_CPU_VECTORS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/inline.h"

namespace {

constexpr int kLanes = CDNA_VECTOR_BYTES / 4;  // Of f32.
constexpr int kDoubles = CDNA_VECTOR_BYTES / 8;

typedef float F32 __attribute__((vector_size(CDNA_VECTOR_BYTES)));
typedef float HalfF32 __attribute__((vector_size(CDNA_VECTOR_BYTES / 2)));  // As many as there are doubles.
typedef double F64 __attribute__((vector_size(CDNA_VECTOR_BYTES)));
typedef int64_t I64 __attribute__((vector_size(CDNA_VECTOR_BYTES)));
typedef int32_t I32 __attribute__((vector_size(CDNA_VECTOR_BYTES)));
typedef uint32_t U32 __attribute__((vector_size(CDNA_VECTOR_BYTES)));
typedef uint16_t U16 __attribute__((vector_size(CDNA_VECTOR_BYTES / 2)));
typedef uint8_t U8 __attribute__((vector_size(CDNA_VECTOR_BYTES / 4)));

CDNA_INLINE I32 lane_numbers() {
  I32 numbers = {};
  for (int lane = 0; lane < kLanes; ++lane) numbers[lane] = lane;
  return numbers;
}

CDNA_INLINE void copy(void* to, const void* from, size_t bytes) { __builtin_memcpy(to, from, bytes); }

template <class Vector>
CDNA_INLINE Vector load(const void* from) {
  Vector vector;
  copy(&vector, from, sizeof vector);
  return vector;
}

template <class Vector>
CDNA_INLINE void store(void* to, Vector vector) {
  copy(to, &vector, sizeof vector);
}

CDNA_INLINE float float_of_bits(uint32_t bits) {
  float value;
  copy(&value, &bits, sizeof value);
  return value;
}

CDNA_INLINE uint32_t bits_of_float(float value) {
  uint32_t bits;
  copy(&bits, &value, sizeof bits);
  return bits;
}

}  // namespace

#endif
