// c[16, 8] += a[16, 16] b[16, 8] as numbers, and the lanes' parts of A and C (PTX ISA, "Matrix fragments for
// mma.m16n8k16"; a warp's part of a wgmma is made of the same).
#pragma once

#include <cstdint>

namespace emulator {

struct Tile {
  alignas(16) float c[16][8];
  alignas(16) float b[16][8];
  float a[16][16];
};

// The numbers of all 65536 halves.
const float* half_values(bool f16);

inline void place_pair(float* to, const float* values, std::uint32_t word) {
  to[0] = values[word & 0xFFFFU];
  to[1] = values[word >> 16];
}

// Lane 4g + t: a0, a1 = A[g][2t, 2t + 1]; a2, a3 8 rows below; a4 to a7 the same 8 columns further.
inline void place_a(Tile& tile, const float* values, unsigned lane, const std::uint32_t* a) {
  float* const upper = tile.a[lane / 4] + 2 * (lane % 4);
  float* const lower = tile.a[lane / 4 + 8] + 2 * (lane % 4);
  place_pair(upper, values, a[0]);
  place_pair(lower, values, a[1]);
  place_pair(upper + 8, values, a[2]);
  place_pair(lower + 8, values, a[3]);
}

// Lane 4g + t: b0, b1 = B[2t, 2t + 1][g]; b2, b3 8 rows below.
inline void place_b(Tile& tile, const float* values, unsigned lane, const std::uint32_t* b) {
  const unsigned row = 2 * (lane % 4);
  const unsigned column = lane / 4;
  tile.b[row][column] = values[b[0] & 0xFFFFU];
  tile.b[row + 1][column] = values[b[0] >> 16];
  tile.b[row + 8][column] = values[b[1] & 0xFFFFU];
  tile.b[row + 9][column] = values[b[1] >> 16];
}

// Lane 4g + t: c0, c1 = C[g][2t, 2t + 1]; c2, c3 8 rows below.
inline void place_c(Tile& tile, unsigned lane, const float* c) {
  float* const upper = tile.c[lane / 4] + 2 * (lane % 4);
  float* const lower = tile.c[lane / 4 + 8] + 2 * (lane % 4);
  upper[0] = c[0];
  upper[1] = c[1];
  lower[0] = c[2];
  lower[1] = c[3];
}
inline void take_c(const Tile& tile, unsigned lane, float* c) {
  const float* const upper = tile.c[lane / 4] + 2 * (lane % 4);
  const float* const lower = tile.c[lane / 4 + 8] + 2 * (lane % 4);
  c[0] = upper[0];
  c[1] = upper[1];
  c[2] = lower[0];
  c[3] = lower[1];
}

// Products are exact in f32 (but for underflow); sums are f32, k by k.
void multiply(Tile& tile);

}  // namespace emulator
