// The loop of AMX: four accumulators, which cover the latency of 52 cycles at one tile product in 16.
#include <immintrin.h>

#include <array>
#include <cstdint>
#include <cstring>

#include "tools/bench/bf16_peak.hpp"

namespace cdna::tools::bench {
namespace {

// Intel 64 and IA-32 Architectures Software Developer's Manual, LDTILECFG: palette 1, eight tiles of 16 rows of 64 B.
struct alignas(64) TileConfiguration {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::array<std::uint8_t, 14> reserved{};
  std::array<std::uint16_t, 16> row_bytes{};
  std::array<std::uint8_t, 16> rows{};
};
static_assert(sizeof(TileConfiguration) == 64);

constexpr std::uint64_t kOperations = 2 * 16 * 16 * 32;  // Of one tile product.

TileConfiguration eight_tiles() {
  TileConfiguration tiles;
  for (std::size_t i = 0; i < 8; ++i) {
    tiles.row_bytes[i] = 64;
    tiles.rows[i] = 16;
  }
  return tiles;
}

}  // namespace

std::uint64_t run_tile_products(std::uint64_t rounds) {
  const TileConfiguration tiles = eight_tiles();
  alignas(64) std::array<std::uint16_t, 512> values;
  values.fill(0x3DCD);  // About 0.1: zeros would draw less power than numbers do.
  alignas(64) std::array<float, 256> sums;
  _tile_loadconfig(&tiles);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, values.data(), 64);
  _tile_loadd(5, values.data(), 64);
  _tile_loadd(6, values.data(), 64);
  _tile_loadd(7, values.data(), 64);
  for (std::uint64_t i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums.data(), 64);
  _tile_release();
  asm volatile("" : : "r"(sums.data()) : "memory");
  return rounds * 4 * kOperations;
}

}  // namespace cdna::tools::bench
