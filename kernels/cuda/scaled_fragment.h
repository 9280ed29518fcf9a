// From words of codes to A operands with everything that belongs to an element but the row scale: codebook entry times
// group scale, rounded once, outliers in place.
#pragma once

#include <type_traits>

#include "outlier_cursor.h"
#include "weight_stream.h"

namespace cdna_cuda {

// How elements come about; every kernel is made for one. grouped: with group scales, then entries are taken in full
// precision, multiplied in f32, and rounded to `half` after that.
template <Codes codes_, Half half_, bool grouped_>
struct Decoding {
  static_assert(codes_ != Codes::affine || half_ == Half::f16);
  static constexpr Codes codes = codes_;
  static constexpr Half half = half_;
  static constexpr bool grouped = grouped_;
};

// The entry of the scale table lies in the free half of a row of the table, in 32 copies like the other.
constexpr unsigned kScaleInRow = 128;

// What row `row` of the table holds: table_word(); with group scales f32, but of 4 bits two binary16 numbers.
template <class D>
CDNA_DEVICE std::uint32_t fragment_table_word(const Weights& weights, unsigned row) {
  if constexpr (!D::grouped) {
    return table_word(weights.bits, D::half, weights.codebook, row);
  } else if constexpr (D::codes == Codes::pairs) {
    return table_word(weights.bits, Half::f16, weights.codebook, row);
  } else {
    return __float_as_uint(widen<Half::f16>(weights.codebook[row & ((1U << weights.bits) - 1)]));
  }
}

// Writes the table, a block's threads together; a barrier has to follow.
template <class D>
CDNA_DEVICE void fill_table(unsigned char* table, const Weights& weights) {
  const unsigned lane = threadIdx.x % kLanes;
#pragma unroll 4
  for (unsigned row = threadIdx.x / kLanes; row < kTableRows; row += blockDim.x / kLanes) {
    auto* const words = reinterpret_cast<std::uint32_t*>(table + std::size_t{row} * kTableStride);
    if constexpr (D::codes != Codes::affine) words[lane] = fragment_table_word<D>(weights, row);
    if constexpr (D::grouped) {
      if (weights.group_scale_type == ScaleType::u8) {
        words[kScaleInRow / 4 + lane] = __float_as_uint(weights.scale_table[row]);
      }
    }
  }
}

// Rows of tiles behind the last one repeat it; what they give is not stored.
CDNA_HD std::uint32_t clamp_row_tile(const Weights& weights, std::uint32_t row_tile) {
  const auto last = static_cast<std::uint32_t>(tiles_of_rows(weights.rows) - 1);
  return row_tile < last ? row_tile : last;
}

// One row of tiles as A operands, step after step; codes of `ahead` stages (1 or 2) have been asked for.
template <class D, unsigned ahead>
class FragmentStream {
 public:
  // table: of fill_table(); it is looked at from decode() on. Past the last row of tiles it gives something.
  CDNA_DEVICE FragmentStream(const Weights& weights, std::uint32_t row_tile, const unsigned char* table, unsigned lane)
      : weights_(weights),
        codes_from_(weights, clamp_row_tile(weights, row_tile), lane),
        scales_from_(weights, clamp_row_tile(weights, row_tile), lane),
        outliers_(weights, row_tile, lane),
        table_(table),
        lane_offset_(4 * lane) {
    if constexpr (D::codes == Codes::affine) {
      base_ = weights.lines[0] * 0x10001U;
      step_ = weights.lines[1] * 0x10001U;
    }
  }

  // a becomes step `step` of the tile that begins at column `column`; steps have to be asked for in order.
  CDNA_DEVICE void decode(std::uint32_t (&a)[4], std::uint32_t column, unsigned step) {
    const bool more = column + kTileColumns < weights_.cols;
    if (step % kStageSteps == 0) codes_from_.next(codes_, step / kStageSteps, more);
    if constexpr (D::grouped) {
      if (step % 2 == 0) next_scales(step / 2, more);
      decode_scaled(a, step);
    } else {
      entries(a, step);
    }
    outliers_.patch(a, column + kStepColumns * (step + 1));
  }

 private:
  // Scales without a group: nothing.
  struct NoScales {
    CDNA_DEVICE NoScales(const Weights&, std::uint32_t, unsigned) {}
  };

  CDNA_DEVICE std::uint32_t look_up(std::uint32_t codes, unsigned j, unsigned in_row = 0) const {
    return *reinterpret_cast<const std::uint32_t*>(table_ + in_row + table_offset(codes, j, lane_offset_));
  }

  CDNA_DEVICE std::uint32_t codes_of(unsigned half, unsigned step) const {
    return codes_
        .half[half][(D::codes == Codes::pairs ? step / 2 : step) % (D::codes == Codes::pairs ? 2 : kStageSteps)];
  }

  // Codes j and j + 1 of a step: two f16 from base + code * step.
  CDNA_DEVICE std::uint32_t affine_pair(std::uint32_t codes, unsigned j) const {
    const std::uint32_t from_1024 = select_bytes(codes, 0x64646464U, j == 0 ? 0x4140U : 0x4342U);
    return fma_f16x2(subtract_f16x2(from_1024, 0x64006400U), step_, base_);
  }

  CDNA_DEVICE std::uint32_t entry_pair(std::uint32_t codes, unsigned step, unsigned j) const {
    if constexpr (D::codes == Codes::affine) {  // The stored entry, bit for bit (spec/format.md, 13.3).
      return affine_pair(codes, j);
    } else if constexpr (D::codes == Codes::pairs) {
      return look_up(codes, 2 * (step % 2) + j / 2);
    } else {
      return select_bytes(look_up(codes, j), look_up(codes, j + 1), 0x7610U);
    }
  }

  CDNA_DEVICE void entries(std::uint32_t (&a)[4], unsigned step) const {
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
      const std::uint32_t codes = codes_of(half, step);
      a[half] = entry_pair(codes, step, 0);
      a[half + 2] = entry_pair(codes, step, 2);
    }
  }

  CDNA_DEVICE std::uint32_t scaled_pair(std::uint32_t codes, unsigned step, unsigned j, float scale) const {
    if constexpr (D::codes == Codes::affine || D::codes == Codes::pairs) {
      const std::uint32_t pair = entry_pair(codes, step, j);
      return narrow_pair<D::half>(widen<Half::f16>(static_cast<std::uint16_t>(pair)) * scale,
                                  widen<Half::f16>(static_cast<std::uint16_t>(pair >> 16)) * scale);
    } else {
      return narrow_pair<D::half>(__uint_as_float(look_up(codes, j)) * scale,
                                  __uint_as_float(look_up(codes, j + 1)) * scale);
    }
  }

  CDNA_DEVICE void decode_scaled(std::uint32_t (&a)[4], unsigned step) const {
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
      const std::uint32_t codes = codes_of(half, step);
      const float scale = scale_[half];
      a[half] = scaled_pair(codes, step, 0, scale);
      a[half + 2] = scaled_pair(codes, step, 2, scale);
    }
  }

  CDNA_DEVICE void next_scales(unsigned part, bool more) {
    const auto scales = scales_from_.next(part, more);
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
      const std::uint32_t scale = scales.of_half[half];
      scale_[half] =
          __uint_as_float(weights_.group_scale_type == ScaleType::u8 ? look_up(scale, 0, kScaleInRow) : scale);
    }
  }

  using Scales = std::conditional_t<D::grouped, ScaleStream<ahead>, NoScales>;

  const Weights& weights_;
  CodeStream<D::codes, ahead> codes_from_;
  Scales scales_from_;
  OutlierCursor<D::half> outliers_;
  const unsigned char* table_;
  std::uint32_t lane_offset_;
  StageCodes<D::codes> codes_;
  float scale_[2];  // Of the 32 columns.
  std::uint32_t base_ = 0;
  std::uint32_t step_ = 0;
};

}  // namespace cdna_cuda
