// What the f32 loops of matmul.h do with vectors. Included by a file that has defined CDNA_VECTOR_BYTES (vectors.h).
#ifndef CDNA_KERNELS_CPU_F32_VECTORS_H
#define CDNA_KERNELS_CPU_F32_VECTORS_H

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/vectors.h"

namespace {

constexpr int kSumVectors = CDNA_SUM_LANES / kLanes;  // Registers that have 16 lanes.

// Columns of a block, as cdna_packed_column has them.
constexpr int32_t column_of(cdna_order order, int32_t p) {
  if (order == CDNA_ORDER_NIBBLES) return p % 16 * 8 + p / 16;
  return p % 16 / 4 * 16 + p / 32 * 8 + p % 4 * 2 + p / 16 % 2;
}

template <cdna_order kOrder>
CDNA_INLINE I32 columns_of(int r) {
  I32 columns;
  for (int lane = 0; lane < kLanes; ++lane) columns[lane] = column_of(kOrder, r * kLanes + lane);
  return columns;
}

template <class T>
struct WithoutConst {
  using Type = T;
};
template <class T>
struct WithoutConst<const T&> {
  using Type = T;
};
template <class T>
using EntriesOf = typename WithoutConst<T>::Type;

}  // namespace

#endif
