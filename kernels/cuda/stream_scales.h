// A lane's group scales of the stream loop: rows g and g + 8 of each row tile, one column tile ahead.
#pragma once

#include "device.h"
#include "stream.h"

namespace cdna_cuda {

// Where a lane finds its scales. Tiles are counted over the matrix.
struct ScalePlace {
  const unsigned char* row;      // Of row g in tile 0: whole words.
  std::uint32_t tile_bytes;      // From tile to tile; half of it on there is row g + 8.
  std::uint32_t lane_offset;     // u8: of the lane's copies in the scale table.
  std::uint32_t first_selector;  // u8: of select_bytes, for the scale of the tile's first group.
  std::uint32_t shift;           // A pair of steps, 32 columns, belongs to the group pair >> shift.
  const unsigned char* table;    // In shared memory.

  CDNA_DEVICE const unsigned char* of_tile(std::uint32_t tile, unsigned half) const {
    return row + std::uint64_t{tile} * tile_bytes + half * (tile_bytes / 2);
  }
};

template <ScaleType type>
CDNA_DEVICE ScalePlace scale_place(const StreamSegment& segment, const unsigned char* table) {
  constexpr std::uint32_t size = type == ScaleType::u8 ? 1 : 4;
  const std::uint32_t lane = threadIdx.x % kLanes;
  const std::uint32_t groups = kTileColumns >> segment.group_shift;
  const std::uint32_t row = lane / 4 * groups * size;
  ScalePlace place;
  place.row = segment.group_scales + row / 4 * 4;
  place.tile_bytes = kTileRows * groups * size;
  place.lane_offset = 4 * (lane / 4);
  place.first_selector = 0x4440U + row % 4;
  place.shift = segment.group_shift - 5;
  place.table = table;
  return place;
}

template <ScaleType type, unsigned row_tiles>
struct StreamScales;

template <unsigned row_tiles>
struct StreamScales<ScaleType::none, row_tiles> {
  CDNA_DEVICE void load(unsigned, const ScalePlace&, std::uint32_t) {}
  CDNA_DEVICE void begin_tile(unsigned, const ScalePlace&, std::uint32_t, bool) {}
  CDNA_DEVICE void take(float (&)[2], unsigned, const ScalePlace&, unsigned, std::uint32_t, bool) {}
};

// Numbers of entries of the scale table: all of a tile's row in a word or less.
template <unsigned row_tiles>
struct StreamScales<ScaleType::u8, row_tiles> {
  CDNA_DEVICE void load(unsigned row_tile, const ScalePlace& place, std::uint32_t tile) {
#pragma unroll
    for (unsigned h = 0; h < 2; ++h) next[row_tile][h] = word(place, h, tile);
  }
  // Of the tile that begins; `following` is the warp's next, if there is `any`.
  CDNA_DEVICE void begin_tile(unsigned row_tile, const ScalePlace& place, std::uint32_t following, bool any) {
#pragma unroll
    for (unsigned h = 0; h < 2; ++h) {
      now[row_tile][h] = next[row_tile][h];
      if (any) next[row_tile][h] = word(place, h, following);
    }
  }
  CDNA_DEVICE void take(float (&scale)[2], unsigned row_tile, const ScalePlace& place, unsigned pair, std::uint32_t,
                        bool) {
#pragma unroll
    for (unsigned h = 0; h < 2; ++h) {
      const std::uint32_t number = select_bytes(now[row_tile][h], 0, place.first_selector + (pair >> place.shift));
      scale[h] = *reinterpret_cast<const float*>(place.table + place.lane_offset + number * (4 * kScaleCopies));
    }
  }

 private:
  static CDNA_DEVICE std::uint32_t word(const ScalePlace& place, unsigned h, std::uint32_t tile) {
    return *reinterpret_cast<const std::uint32_t*>(place.of_tile(tile, h));
  }

  std::uint32_t now[row_tiles][2];
  std::uint32_t next[row_tiles][2];
};

// Four for each row, some of them the same where groups are longer than 32.
template <unsigned row_tiles>
struct StreamScales<ScaleType::f32, row_tiles> {
  CDNA_DEVICE void load(unsigned row_tile, const ScalePlace& place, std::uint32_t tile) {
#pragma unroll
    for (unsigned h = 0; h < 2; ++h) {
#pragma unroll
      for (unsigned pair = 0; pair < 4; ++pair) scales[row_tile][h][pair] = number(place, h, pair, tile);
    }
  }
  CDNA_DEVICE void begin_tile(unsigned, const ScalePlace&, std::uint32_t, bool) {}
  CDNA_DEVICE void take(float (&scale)[2], unsigned row_tile, const ScalePlace& place, unsigned pair,
                        std::uint32_t following, bool any) {
#pragma unroll
    for (unsigned h = 0; h < 2; ++h) {
      scale[h] = scales[row_tile][h][pair];
      if (any) scales[row_tile][h][pair] = number(place, h, pair, following);
    }
  }

 private:
  static CDNA_DEVICE float number(const ScalePlace& place, unsigned h, unsigned pair, std::uint32_t tile) {
    return reinterpret_cast<const float*>(place.of_tile(tile, h))[pair >> place.shift];
  }

  float scales[row_tiles][2][4];
};

}  // namespace cdna_cuda
