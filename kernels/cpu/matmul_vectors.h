// Vectors of f32 sums, and calls with types and numbers for arguments. Included by a file that has defined
// CDNA_VECTOR_BYTES: 16, 32 or 64.
#ifndef CDNA_KERNELS_CPU_MATMUL_VECTORS_H
#define CDNA_KERNELS_CPU_MATMUL_VECTORS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/inline.h"
#include "kernels/cpu/matmul.h"

namespace {

constexpr size_t kLanes = CDNA_VECTOR_BYTES / 4;
constexpr size_t kSumVectors = CDNA_SUM_LANES / kLanes;

typedef float F32 __attribute__((vector_size(CDNA_VECTOR_BYTES)));
typedef int32_t I32 __attribute__((vector_size(CDNA_VECTOR_BYTES)));
typedef uint32_t U32 __attribute__((vector_size(CDNA_VECTOR_BYTES)));

template <class Vector>
CDNA_INLINE Vector load(const void* from) {
  Vector vector;
  __builtin_memcpy(&vector, from, sizeof vector);
  return vector;
}

template <class Vector>
CDNA_INLINE void store(void* to, Vector vector) {
  __builtin_memcpy(to, &vector, sizeof vector);
}

// Less 0, for 0 and a number may be another: adding would not be left out.
CDNA_INLINE F32 broadcast(float value) { return value - F32{}; }

template <class T>
struct Type {
  using Of = T;
};

template <size_t kCount>
struct Count {
  static constexpr size_t kValue = kCount;
};

// Calls body(Count<n>()) for 0 < n <= kMost.
template <size_t kMost, class Body>
CDNA_INLINE void with_count(size_t n, const Body& body) {
  if constexpr (kMost > 0) {
    if (n == kMost) return body(Count<kMost>());
    with_count<kMost - 1>(n, body);
  }
}

// Calls body(0), body(1), ... body(kTimes - 1), each with a constant: what an array's elements have in a loop of
// unknown index stays in memory (g++ 12, four rows of sums: 8 instead of 16 G weights/s).
template <size_t kTimes, class Body>
CDNA_INLINE void unrolled(const Body& body) {
  if constexpr (kTimes > 0) {
    unrolled<kTimes - 1>(body);
    body(kTimes - 1);
  }
}

}  // namespace

#endif
