// The product of two f32 matrices, tile by tile: a tile of c stays in registers while b streams by. Included by a file
// that includes f32_vectors.h and defines
//   multiply_add and broadcast (f32_body.h);
//   constexpr size_t kTileVectors;             Registers of columns of the widest tile.
//   constexpr size_t tile_rows(size_t vectors);  Of a tile of that many registers of columns.
#ifndef CDNA_KERNELS_CPU_F32_TILE_H
#define CDNA_KERNELS_CPU_F32_TILE_H

#include "kernels/cpu/f32_vectors.h"

namespace {

struct Factors {
  const float* a;
  size_t lda;
  const float* b;
  size_t ldb;
  size_t depth;
};

// c += a b, for kRows rows and kVectors registers of columns.
template <size_t kRows, size_t kVectors>
CDNA_INLINE void multiply_tile(const Factors& from, float* c, size_t ldc) {
  F32 sum[kRows][kVectors];
  CDNA_UNROLL(32)
  for (size_t i = 0; i < kRows; ++i) {
    CDNA_UNROLL(8)
    for (size_t j = 0; j < kVectors; ++j) sum[i][j] = load<F32>(c + i * ldc + j * kLanes);
  }
  const float* b = from.b;
  for (size_t t = 0; t < from.depth; ++t, b += from.ldb) {
    F32 bs[kVectors];
    CDNA_UNROLL(8)
    for (size_t j = 0; j < kVectors; ++j) bs[j] = load<F32>(b + j * kLanes);
    CDNA_UNROLL(32)
    for (size_t i = 0; i < kRows; ++i) {
      const F32 factor = broadcast(from.a[i * from.lda + t]);
      CDNA_UNROLL(8)
      for (size_t j = 0; j < kVectors; ++j) sum[i][j] = multiply_add(factor, bs[j], sum[i][j]);
    }
  }
  CDNA_UNROLL(32)
  for (size_t i = 0; i < kRows; ++i) {
    CDNA_UNROLL(8)
    for (size_t j = 0; j < kVectors; ++j) store(c + i * ldc + j * kLanes, sum[i][j]);
  }
}

// All rows of kVectors registers of columns, kRows at a time, then half as many.
template <size_t kRows, size_t kVectors>
void multiply_columns(Factors from, size_t rows, float* c, size_t ldc) {
  for (; rows >= kRows; rows -= kRows) {
    multiply_tile<kRows, kVectors>(from, c, ldc);
    from.a += kRows * from.lda;
    c += kRows * ldc;
  }
  if constexpr (kRows > 1) {
    if (rows > 0) multiply_columns<kRows / 2, kVectors>(from, rows, c, ldc);
  }
}

// Bytes of b that all rows use one after the other, from the first-level cache.
constexpr size_t kPanelBytes = 16384;

template <size_t kVectors>
CDNA_INLINE void multiply_panel(Factors from, size_t rows, float* c, size_t ldc) {
  constexpr size_t kDepth = kPanelBytes / (kVectors * sizeof(F32));
  for (size_t left = from.depth; left > 0; left -= from.depth) {
    from.depth = left < kDepth ? left : kDepth;
    multiply_columns<tile_rows(kVectors), kVectors>(from, rows, c, ldc);
    from.a += from.depth;
    from.b += from.depth * from.ldb;
  }
}

// All columns, kVectors registers at a time, then half as many, down to 16 columns.
template <size_t kVectors>
CDNA_INLINE void multiply_panels(Factors from, size_t rows, size_t lanes, float* c, size_t ldc) {
  constexpr size_t kWidth = kVectors * kLanes;
  for (; lanes >= kWidth; lanes -= kWidth) {
    multiply_panel<kVectors>(from, rows, c, ldc);
    from.b += kWidth;
    c += kWidth;
  }
  if constexpr (kVectors > kSumVectors) multiply_panels<kVectors / 2>(from, rows, lanes, c, ldc);
}

void multiply(const float* a, size_t lda, size_t rows, const float* b, size_t ldb, size_t lanes, size_t depth, float* c,
              size_t ldc) {
  multiply_panels<kTileVectors>({a, lda, b, ldb, depth}, rows, lanes, c, ldc);
}

}  // namespace

#endif
