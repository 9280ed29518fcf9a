// A lane's codes of the stream loop: words that are always on their way from memory, and the A operands they become.
#pragma once

#include "device.h"

namespace cdna_cuda {

struct FragmentSource {
  const unsigned char* table;  // In shared memory.
  std::uint32_t lane_offset;   // 4 * lane
};

// The words of `row_tiles` tiles that a lane multiplies with next. A run of 16 bytes is asked for again, of the warp's
// next column tile, as soon as its words are used: the registers that are read are what is in flight. Two tiles of 8
// bits are kept by halves: 64 bytes per lane are enough (NOTES.md).
template <unsigned bits, unsigned row_tiles>
struct StreamWords {
  static constexpr unsigned kRuns = bits == 8 && row_tiles == 2 ? 2 : bits / 2;  // Kept of each tile.

  // The order in which pairs of steps (32 columns each) are taken: first those that need words of several runs.
  static CDNA_HD constexpr unsigned pair(unsigned turn) {
    return bits == 5 ? (turn + 2) % 4 : bits == 6 ? (turn + 3) % 4 : turn;
  }

  // lane_tile: the lane's first run of the tile.
  CDNA_DEVICE void load(unsigned row_tile, const unsigned char* lane_tile) {
#pragma unroll
    for (unsigned run = 0; run < kRuns; ++run) load_run(row_tile, lane_tile, run);
    if constexpr (bits == 5) load_rest(row_tile, lane_tile);
  }

  // After `pair` has been taken: asks for what no later pair needs the registers of, of this tile or, if there is
  // `any`, the following one.
  CDNA_DEVICE void reload(unsigned row_tile, const unsigned char* lane_tile, const unsigned char* following, bool any,
                          unsigned pair) {
    if constexpr (bits == 8) {
      if (pair + kRuns < 4) {
        load_run(row_tile, lane_tile, pair + kRuns);
      } else if (any) {
        load_run(row_tile, following, pair + kRuns - 4);
      }
    } else if (any) {
      if (bits == 4 && pair % 2 == 1) load_run(row_tile, following, pair / 2);
      if (bits == 6 && pair < 3) load_run(row_tile, following, pair);
      if (bits == 5 && pair < 2) load_run(row_tile, following, pair);
      if constexpr (bits == 5) {
        if (pair == 3) load_rest(row_tile, following);
      }
    }
  }

  // The A operand of a step.
  CDNA_DEVICE void fragment(std::uint32_t (&a)[4], unsigned row_tile, unsigned step,
                            const FragmentSource& source) const {
#pragma unroll
    for (unsigned h = 0; h < 2; ++h) {
      std::uint32_t half_words[bits];
#pragma unroll
      for (unsigned w = 0; w < bits; ++w) half_words[w] = words[row_tile][word_place(bits, h, w) % kWords];
      if constexpr (bits == 4) {
        a[h] = look_up(source, half_words[step / 2], 2 * (step % 2));
        a[h + 2] = look_up(source, half_words[step / 2], 2 * (step % 2) + 1);
      } else {
        const std::uint32_t codes = step_bytes<bits>(half_words, step);
        a[h] = select_bytes(look_up(source, codes, 0), look_up(source, codes, 1), 0x5410U);
        a[h + 2] = select_bytes(look_up(source, codes, 2), look_up(source, codes, 3), 0x5410U);
      }
    }
  }

  // A run further on is where one was that is used up.
  static constexpr unsigned kWords = bits == 5 ? 2 * bits : 4 * kRuns;
  std::uint32_t words[row_tiles][kWords];

 private:
  CDNA_DEVICE void load_run(unsigned row_tile, const unsigned char* lane_tile, unsigned run) {
    const uint4 v = load_once_16(lane_tile + 512 * run);
    words[row_tile][4 * run % kWords] = v.x;
    words[row_tile][4 * run % kWords + 1] = v.y;
    words[row_tile][4 * run % kWords + 2] = v.z;
    words[row_tile][4 * run % kWords + 3] = v.w;
  }
  // Of 5 bits, the last word of each half; lane_tile is for runs of 16 bytes.
  CDNA_DEVICE void load_rest(unsigned row_tile, const unsigned char* lane_tile) {
    const uint2 v = load_once_8(lane_tile + 512 * (bits / 2) - 8 * (threadIdx.x % kLanes));
    words[row_tile][2 * bits - 2] = v.x;
    words[row_tile][2 * bits - 1] = v.y;
  }

  static CDNA_DEVICE std::uint32_t look_up(const FragmentSource& source, std::uint32_t codes, unsigned j) {
    // Not by an address of our own: so the compiler knows the base, and leaves the sum to LDS.
    return *reinterpret_cast<const std::uint32_t*>(source.table + table_offset(codes, j, source.lane_offset));
  }
};

}  // namespace cdna_cuda
