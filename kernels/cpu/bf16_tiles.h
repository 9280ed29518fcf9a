// multiply() of cdna_bf16_kernels in tiles (AMX), over a set of operations on them, so that a test can give it another.
//
// Of c 2 x 2 tiles of 16 x 16 are summed up at a time: four products for four loads of a and b. The tiles of a are its
// own memory, those of b as well, for its pairs already are what a tile has in a row: 16 lanes of two.
#ifndef CDNA_KERNELS_CPU_BF16_TILES_H
#define CDNA_KERNELS_CPU_BF16_TILES_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/inline.h"

namespace {

constexpr size_t kTileRows = 16;
constexpr size_t kTileLanes = 16;
constexpr size_t kTileDepth = 32;

// What LDTILECFG reads, palette 1 (Intel SDM, LDTILECFG).
struct alignas(64) TileShapes {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileShapes) == 64);

// Numbers of tiles. Tile 2 i + j of c is the sum of tiles i of a and j of b.
template <int kNumber>
struct Tile {
  static constexpr int kOf = kNumber;
};
template <int kI, int kJ>
using TileOfC = Tile<2 * kI + kJ>;
template <int kI>
using TileOfA = Tile<4 + kI>;
template <int kJ>
using TileOfB = Tile<6 + kJ>;

// For `rows` rows of a, at most 32.
CDNA_INLINE TileShapes shapes_of(size_t rows) {
  const size_t first = rows < kTileRows ? rows : kTileRows;
  const size_t second = rows - first;
  TileShapes shapes = {};
  shapes.palette = 1;
  for (int tile = 0; tile < 8; ++tile) {
    const bool is_b = tile >= 6;
    const bool is_second = tile < 4 ? tile >= 2 : tile == 5;
    const size_t tile_rows = is_b ? kTileDepth / 2 : is_second ? second : first;
    shapes.rows[tile] = static_cast<uint8_t>(tile_rows);
    shapes.row_bytes[tile] = tile_rows == 0 ? 0 : 64;  // A tile without rows has none: both are 0, or neither.
  }
  return shapes;
}

struct TileOperands {
  const uint16_t* a;
  size_t lda;
  const uint16_t* b;
  size_t ldb;
  size_t depth;
  float* c;
  size_t ldc;
};

template <class Operations, int kI, int kJ>
CDNA_INLINE void load_c(Operations& tiles, const TileOperands& of) {
  tiles.load(TileOfC<kI, kJ>(), of.c + kI * kTileRows * of.ldc + kJ * kTileLanes, of.ldc * sizeof(float));
}

template <class Operations, int kI, int kJ>
CDNA_INLINE void store_c(Operations& tiles, const TileOperands& of) {
  tiles.store(TileOfC<kI, kJ>(), of.c + kI * kTileRows * of.ldc + kJ * kTileLanes, of.ldc * sizeof(float));
}

// kRowTiles x kLaneTiles tiles of c.
template <int kRowTiles, int kLaneTiles, class Operations>
CDNA_INLINE void multiply_tiles(Operations& tiles, const TileOperands& of) {
  constexpr bool kTwoRows = kRowTiles == 2;
  constexpr bool kTwoLanes = kLaneTiles == 2;
  load_c<Operations, 0, 0>(tiles, of);
  if constexpr (kTwoLanes) load_c<Operations, 0, 1>(tiles, of);
  if constexpr (kTwoRows) load_c<Operations, 1, 0>(tiles, of);
  if constexpr (kTwoRows && kTwoLanes) load_c<Operations, 1, 1>(tiles, of);
  for (size_t t = 0; t < of.depth; t += kTileDepth) {
    const uint16_t* a = of.a + t;
    const uint16_t* b = of.b + t * of.ldb;
    tiles.load(TileOfB<0>(), b, of.ldb * 4);
    tiles.load(TileOfA<0>(), a, of.lda * 2);
    tiles.dot(TileOfC<0, 0>(), TileOfA<0>(), TileOfB<0>());
    if constexpr (kTwoLanes) {
      tiles.load(TileOfB<1>(), b + 2 * kTileLanes, of.ldb * 4);
      tiles.dot(TileOfC<0, 1>(), TileOfA<0>(), TileOfB<1>());
    }
    if constexpr (kTwoRows) {
      tiles.load(TileOfA<1>(), a + kTileRows * of.lda, of.lda * 2);
      tiles.dot(TileOfC<1, 0>(), TileOfA<1>(), TileOfB<0>());
    }
    if constexpr (kTwoRows && kTwoLanes) tiles.dot(TileOfC<1, 1>(), TileOfA<1>(), TileOfB<1>());
  }
  store_c<Operations, 0, 0>(tiles, of);
  if constexpr (kTwoLanes) store_c<Operations, 0, 1>(tiles, of);
  if constexpr (kTwoRows) store_c<Operations, 1, 0>(tiles, of);
  if constexpr (kTwoRows && kTwoLanes) store_c<Operations, 1, 1>(tiles, of);
}

// All lanes of 16 or 32 rows, or of the fewer that the tiles are configured for.
template <int kRowTiles, class Operations>
CDNA_INLINE void multiply_lanes(Operations& tiles, TileOperands of, size_t lanes) {
  for (; lanes >= 2 * kTileLanes; lanes -= 2 * kTileLanes) {
    multiply_tiles<kRowTiles, 2>(tiles, of);
    of.b += 2 * 2 * kTileLanes;
    of.c += 2 * kTileLanes;
  }
  if (lanes > 0) multiply_tiles<kRowTiles, 1>(tiles, of);
}

template <class Operations>
CDNA_INLINE void multiply_in_tiles(Operations& tiles, TileOperands of, size_t rows, size_t lanes) {
  size_t configured = 0;
  while (rows > 0) {
    const size_t taken = rows < 2 * kTileRows ? rows : 2 * kTileRows;
    if (taken != configured) tiles.configure(shapes_of(taken));
    configured = taken;
    if (taken > kTileRows)
      multiply_lanes<2>(tiles, of, lanes);
    else
      multiply_lanes<1>(tiles, of, lanes);
    of.a += taken * of.lda;
    of.c += taken * of.ldc;
    rows -= taken;
  }
  tiles.release();
}

}  // namespace

#endif
