// The bf16 kernels on AMX (TILE, BF16): multiply().
#include <immintrin.h>

#include "kernels/cpu/bf16_multiply_tiles.h"
#include "kernels/cpu/bf16_tiles.h"

namespace {

// The numbers of tiles are part of the instructions, and g++ 12 wants them as digits.
struct Instructions {
  static CDNA_INLINE void configure(const TileShapes& shapes) {
    // g++ 12 takes only the first bytes for an operand: all must have been written.
    __asm__ volatile("" : : "r"(&shapes) : "memory");
    _tile_loadconfig(&shapes);
  }
  static CDNA_INLINE void release() { _tile_release(); }

#define CDNA_TILE(number)                                                           \
  static CDNA_INLINE void load(Tile<number>, const void* from, size_t row_stride) { \
    _tile_loadd(number, from, row_stride);                                          \
  }                                                                                 \
  static CDNA_INLINE void store(Tile<number>, void* to, size_t row_stride) { _tile_stored(number, to, row_stride); }
  CDNA_TILE(0)
  CDNA_TILE(1)
  CDNA_TILE(2)
  CDNA_TILE(3)
  CDNA_TILE(4)
  CDNA_TILE(5)
  CDNA_TILE(6)
  CDNA_TILE(7)
#undef CDNA_TILE

  static CDNA_INLINE void dot(Tile<0>, Tile<4>, Tile<6>) { _tile_dpbf16ps(0, 4, 6); }
  static CDNA_INLINE void dot(Tile<1>, Tile<4>, Tile<7>) { _tile_dpbf16ps(1, 4, 7); }
  static CDNA_INLINE void dot(Tile<2>, Tile<5>, Tile<6>) { _tile_dpbf16ps(2, 5, 6); }
  static CDNA_INLINE void dot(Tile<3>, Tile<5>, Tile<7>) { _tile_dpbf16ps(3, 5, 7); }
};

}  // namespace

void cdna_bf16_multiply_amx(const uint16_t* a, size_t lda, size_t rows, const uint16_t* b, size_t ldb, size_t lanes,
                            size_t depth, float* c, size_t ldc) {
  Instructions tiles;
  multiply_in_tiles(tiles, {a, lda, b, ldb, depth, c, ldc}, rows, lanes);
}

const cdna_bf16_kernels* cdna_bf16_kernels_amx(void) { return cdna_bf16_tile_kernels_avx512_bf16(); }
