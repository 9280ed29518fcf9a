// What the bf16 and int8 loops of matmul.h do with vectors, and calls with types and numbers for arguments. Included by
// a file that has defined CDNA_VECTOR_BYTES (vectors.h).
#ifndef CDNA_KERNELS_CPU_MATMUL_VECTORS_H
#define CDNA_KERNELS_CPU_MATMUL_VECTORS_H

#include "kernels/cpu/code_entries.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/vectors.h"

namespace {

constexpr size_t kSumVectors = CDNA_SUM_LANES / kLanes;  // Registers that have 16 lanes.

// Less 0, for 0 and a number may be another: adding would not be left out.
CDNA_INLINE F32 broadcast(float value) { return value - F32{}; }

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
