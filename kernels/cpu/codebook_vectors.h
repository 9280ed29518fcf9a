// Vectors of 16 f32 and their neighbours in GNU's notation; the compiler cuts them to what the CPU has.
#ifndef CDNA_KERNELS_CPU_CODEBOOK_VECTORS_H
#define CDNA_KERNELS_CPU_CODEBOOK_VECTORS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/codebook.h"

#define CDNA_INLINE inline __attribute__((always_inline))

namespace {

typedef float F32 __attribute__((vector_size(64)));
typedef float F32x8 __attribute__((vector_size(32)));
typedef float F32x4 __attribute__((vector_size(16)));
typedef double F64 __attribute__((vector_size(64)));
typedef int64_t I64 __attribute__((vector_size(64)));
typedef int32_t I32 __attribute__((vector_size(64)));
typedef uint32_t U32 __attribute__((vector_size(64)));
typedef uint16_t U16 __attribute__((vector_size(32)));
typedef uint8_t U8 __attribute__((vector_size(16)));

constexpr I32 kLaneNumbers = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

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

CDNA_INLINE void store_first(float* to, F32 vector, size_t lanes) {
  if (lanes == 16) {
    store(to, vector);
  } else {
    copy(to, &vector, lanes * sizeof(float));
  }
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

CDNA_INLINE bool any(I32 mask) {
  const I64 wide = (I64)mask;
  return ((wide[0] | wide[1]) | (wide[2] | wide[3]) | (wide[4] | wide[5]) | (wide[6] | wide[7])) != 0;
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
