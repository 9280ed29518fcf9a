// c[16, 8] += a[16, 16] b[16, 8] as numbers, and the lanes' parts of A and C (PTX ISA, "Matrix fragments for
// mma.m16n8k16"; a warp's part of a wgmma is made of the same).
#pragma once

#include <cstdint>

namespace emulator {

struct Tile {
  alignas(32) float c[16][8];
  alignas(32) float b[16][8];
  float a[16][16];
};

float widen_half(bool f16, std::uint16_t bits);

// Lane 4g + t: a0, a1 = A[g][2t, 2t + 1]; a2, a3 8 rows below; a4 to a7 the same 8 columns further.
inline void place_a(Tile& tile, bool f16, unsigned lane, const std::uint32_t* a) {
  for (unsigned i = 0; i < 8; ++i) {
    const unsigned row = lane / 4 + 8 * (i / 2 % 2);
    const unsigned column = 2 * (lane % 4) + i % 2 + 8 * (i / 4);
    tile.a[row][column] = widen_half(f16, static_cast<std::uint16_t>(a[i / 2] >> 16 * (i % 2)));
  }
}

// Lane 4g + t: c0, c1 = C[g][2t, 2t + 1]; c2, c3 8 rows below.
inline void place_c(Tile& tile, unsigned lane, const float* c) {
  for (unsigned i = 0; i < 4; ++i) tile.c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2] = c[i];
}
inline void take_c(const Tile& tile, unsigned lane, float* c) {
  for (unsigned i = 0; i < 4; ++i) c[i] = tile.c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
}

// Products are exact in f32 (but for underflow); sums are f32, k by k.
void multiply(Tile& tile);

}  // namespace emulator
