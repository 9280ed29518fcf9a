// A warp's way along a row of tiles: words of codes and group scales, asked from memory before they are needed.
#pragma once

#include "device.h"
#include "linear.h"

namespace cdna_cuda {

// How codes are turned into elements: a kernel is made for one, of those that share it the width is looked at when it
// runs.
//   pairs   4 bits: two entries from one byte.
//   bytes   5, 6 and 8 bits: one entry from one byte.
//   affine  8 bits, f16: computed, which leaves shared memory to x.
enum class Codes : std::uint8_t { pairs, bytes, affine };

// A tile is read by halves, stages of 64 columns: words 0 .. 3 of a lane's halves (0 and 1 of 4 bits) and the rest.
constexpr unsigned kTileStages = 2;
constexpr unsigned kStageSteps = kSteps / kTileStages;

// A lane's words of a stage, in order of their places (word_place).
template <Codes codes>
struct StageWords {
  std::uint32_t at[codes == Codes::pairs ? 4 : 8];
};

template <unsigned bits, Codes codes>
CDNA_DEVICE void load_stage_words(StageWords<codes>& words, const unsigned char* tile, unsigned stage, unsigned lane) {
  constexpr unsigned first_stage = bits == 4 ? 4 : 8;
  const unsigned begin = stage == 0 ? 0 : first_stage;
  const unsigned end = stage == 0 ? first_stage : 2 * bits;
#pragma unroll
  for (unsigned place = begin; place + 4 <= end; place += 4) {
    const uint4 v = load_once_16(tile + word_offset(bits, lane, place));
    words.at[place - begin] = v.x;
    words.at[place - begin + 1] = v.y;
    words.at[place - begin + 2] = v.z;
    words.at[place - begin + 3] = v.w;
  }
  if (bits % 2 == 1 && stage == 1) {
    const uint2 v = load_once_8(tile + word_offset(bits, lane, begin));
    words.at[0] = v.x;
    words.at[1] = v.y;
  }
}

// A lane's codes of a stage. Of 4 bits as they are stored; otherwise those of a step are the bytes of a word, and
// `later` is what words of the first stage say of the steps of the second.
template <Codes codes>
struct StageCodes {
  std::uint32_t half[2][codes == Codes::pairs ? 2 : kStageSteps];
  std::uint32_t later[2][kStageSteps];
};

template <unsigned bits, Codes codes>
CDNA_DEVICE void unpack_stage(StageCodes<codes>& to, const StageWords<codes>& from, unsigned stage) {
#pragma unroll
  for (unsigned half = 0; half < 2; ++half) {
    if constexpr (codes == Codes::pairs) {
      to.half[half][0] = from.at[2 * half];
      to.half[half][1] = from.at[2 * half + 1];
    } else {
      // Words of the other stage count as 0: step_bytes() puts bits of several words together by or.
      std::uint32_t words[bits];
#pragma unroll
      for (unsigned word = 0; word < bits; ++word) {
        words[word] = word / kStageSteps == stage ? from.at[word_place(bits, half, word) - 8 * stage] : 0;
      }
#pragma unroll
      for (unsigned i = 0; i < kStageSteps; ++i) {
        const std::uint32_t bytes = step_bytes<bits>(words, kStageSteps * stage + i);
        to.half[half][i] = stage == 0 ? bytes : bytes | to.later[half][i];
        if (stage == 0) to.later[half][i] = step_bytes<bits>(words, kStageSteps + i);
      }
    }
  }
}

// The stages of one row of tiles, in order of columns; `ahead` of them (1 or 2) have been asked for.
template <Codes codes, unsigned ahead>
class CodeStream {
 public:
  CDNA_DEVICE CodeStream(const Weights& weights, std::uint32_t row_tile, unsigned lane)
      : weights_(weights), lane_(lane), tile_(row_tile * static_cast<std::uint32_t>(tiles_of_columns(weights.cols))) {
#pragma unroll
    for (unsigned i = 0; i < ahead; ++i) load(i, i);
  }

  // The codes of the next stage, the tile's first or second; asks for those of one that follows. more: there is a tile
  // behind this one.
  CDNA_DEVICE void next(StageCodes<codes>& to, unsigned stage, bool more) {
    const StageWords<codes>& from = words_[stage % ahead];
    if constexpr (codes == Codes::pairs) {
      unpack_stage<4>(to, from, stage);
    } else if (codes == Codes::affine || weights_.bits == 8) {
      unpack_stage<8>(to, from, stage);
    } else if (weights_.bits == 6) {
      unpack_stage<6>(to, from, stage);
    } else {
      unpack_stage<5>(to, from, stage);
    }
    // The stage asked for is in the next tile (it always is with 2 ahead): the number goes there once a tile.
    if (stage + 1 == kTileStages + 1 - ahead && more) ++tile_;
    load(stage % ahead, (stage + ahead) % kTileStages);
  }

 private:
  CDNA_DEVICE void load(unsigned slot, unsigned stage) {
    if constexpr (codes == Codes::pairs) {
      load_stage_words<4>(words_[slot], tile_of(4), stage, lane_);
    } else if (codes == Codes::affine || weights_.bits == 8) {
      load_stage_words<8>(words_[slot], tile_of(8), stage, lane_);
    } else if (weights_.bits == 6) {
      load_stage_words<6>(words_[slot], tile_of(6), stage, lane_);
    } else {
      load_stage_words<5>(words_[slot], tile_of(5), stage, lane_);
    }
  }

  CDNA_DEVICE const unsigned char* tile_of(unsigned bits) const {
    return static_cast<const unsigned char*>(weights_.tiles) + tile_ * tile_bytes(bits);
  }

  const Weights& weights_;
  unsigned lane_;
  std::uint32_t tile_;  // The next to ask for.
  StageWords<codes> words_[ahead];
};

// The group scales of one row of tiles for a lane's two rows, 32 columns at a time; those of the next 32 `ahead`
// columns have been asked for.
template <unsigned ahead>
class ScaleStream {
 public:
  // A scale as it lies in memory: the number of an entry of the scale table, or the bits of f32.
  struct Pair {
    std::uint32_t of_half[2];
  };

  CDNA_DEVICE ScaleStream(const Weights& weights, std::uint32_t row_tile, unsigned lane)
      : weights_(weights),
        row_(lane / 4),
        tile_(row_tile * static_cast<std::uint32_t>(tiles_of_columns(weights.cols))) {
#pragma unroll
    for (unsigned i = 0; i < ahead; ++i) load(i);
  }

  // The scales of columns 32 part .. of a tile, parts in order, 0 .. 3. more: there is a tile behind this one.
  CDNA_DEVICE Pair next(unsigned part, bool more) {
    const Pair scales = ahead_[part % ahead];
    if (part + ahead == 4 && more) ++tile_;
    load((part + ahead) % 4);
    return scales;
  }

 private:
  CDNA_DEVICE void load(unsigned part) {
    const unsigned per_row = kTileColumns / weights_.group;
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
      const std::uint32_t row = tile_ * kTileRows + row_ + 8 * half;
      const std::size_t index = std::size_t{row} * per_row + (part * per_row >> 2);
      ahead_[part % ahead].of_half[half] = weights_.group_scale_type == ScaleType::u8
                                               ? static_cast<const unsigned char*>(weights_.group_scales)[index]
                                               : static_cast<const std::uint32_t*>(weights_.group_scales)[index];
    }
  }

  const Weights& weights_;
  unsigned row_;
  std::uint32_t tile_;  // The next to ask for.
  Pair ahead_[ahead];
};

}  // namespace cdna_cuda
