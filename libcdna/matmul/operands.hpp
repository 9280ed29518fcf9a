// The caller's matrices: x brought into the forms that kernels read, y written from sums.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cdna/matmul.hpp"
#include "kernels/cpu/matmul.h"
#include "libcdna/aligned_buffer.hpp"
#include "libcdna/format/float_bits.hpp"
#include "libcdna/format/wire.hpp"

namespace cdna {

// Columns up to whole chunks.
constexpr std::uint64_t whole_chunks(std::uint64_t columns) {
  return (columns + CDNA_CHUNK - 1) / CDNA_CHUNK * CDNA_CHUNK;
}

// Where each column of a chunk stands in an order, and back.
class ColumnOrder {
 public:
  explicit ColumnOrder(cdna_order order);
  std::uint64_t position_of(std::uint64_t column) const {
    return column / CDNA_CHUNK * CDNA_CHUNK + position_[column % CDNA_CHUNK];
  }
  std::uint32_t column_at(std::uint64_t p) const { return column_[p]; }  // Requires: p < CDNA_CHUNK.

 private:
  std::array<std::uint8_t, CDNA_CHUNK> position_{};
  std::array<std::uint8_t, CDNA_CHUNK> column_{};
};

// Elements (i, begin) ... (i, begin + count - 1) as f32.
void read_row(const ConstMatrix& x, std::uint64_t i, std::uint64_t begin, std::uint64_t count, float* out);

// Rows [begin, end) of x in packed order, for dot products.
class PackedRows {
 public:
  static constexpr std::uint64_t kInt8Columns = 64;  // Share a scale.

  PackedRows(const ConstMatrix& x, std::uint64_t begin, std::uint64_t end, Math math, cdna_order order);

  const float* f32(std::uint64_t i) const { return f32_.data() + i * stride_; }
  const std::uint16_t* bf16(std::uint64_t i) const { return bf16_.data() + i * stride_; }
  const std::int8_t* int8(std::uint64_t i) const { return int8_.data() + i * stride_; }
  const float* int8_scales(std::uint64_t i) const { return scales_.data() + i * scale_stride_; }
  std::uint64_t stride() const { return stride_; }
  std::uint64_t scale_stride() const { return scale_stride_; }
  // x as the kernels take it: rounded to what `math` says.
  float value(std::uint64_t i, std::uint64_t column) const {
    const std::uint64_t place = i * stride_ + order_.position_of(column);
    switch (math_) {
      case Math::f32:
        return f32_[place];
      case Math::bf16:
        return f32_of_bf16(bf16_[place]);
      case Math::int8:
        return static_cast<float>(int8_[place]) * scales_[i * scale_stride_ + column / kInt8Columns];
    }
    return 0;
  }

  static u128 bytes(u128 rows, std::uint64_t cols, Math math);

 private:
  void pack_row(const ConstMatrix& x, std::uint64_t from, std::uint64_t i);
  void pack_int8(const float* values, std::uint64_t first, std::uint64_t i);

  Math math_;
  ColumnOrder order_;
  std::uint64_t stride_;
  std::uint64_t scale_stride_;
  AlignedBuffer<float> f32_;
  AlignedBuffer<std::uint16_t> bf16_;
  AlignedBuffer<std::int8_t> int8_;
  AlignedBuffer<float> scales_;  // One per 64 columns.
};

// Rows [begin, end) of x as panels of up to 64 lanes, one lane per row: element p of the packed order of all lanes side
// by side, in bf16 pairs of elements.
class PackedPanels {
 public:
  static constexpr std::uint64_t kPanelLanes = 64;
  struct Panel {
    std::uint64_t first_lane;
    std::uint64_t lanes;  // A multiple of 16.
  };

  PackedPanels(std::uint64_t rows, std::uint64_t cols, Math math, cdna_order order);
  // Fills one panel from rows begin + first_lane, ... of x.
  void pack(const ConstMatrix& x, std::uint64_t begin, std::uint64_t end, std::uint64_t panel);

  std::uint64_t panel_count() const { return (lanes_ + kPanelLanes - 1) / kPanelLanes; }
  Panel panel(std::uint64_t number) const;
  std::uint64_t lanes() const { return lanes_; }
  // Of the panel, from position p on. bf16: p is even.
  const float* f32(const Panel& panel, std::uint64_t p) const {
    return f32_.data() + panel.first_lane * depth_ + p * panel.lanes;
  }
  const std::uint16_t* bf16(const Panel& panel, std::uint64_t p) const {
    return bf16_.data() + panel.first_lane * depth_ + p * panel.lanes;
  }

  static std::uint64_t lanes_of(std::uint64_t rows) { return (rows + 15) / 16 * 16; }
  static u128 bytes(std::uint64_t rows, std::uint64_t cols, Math math);

 private:
  Math math_;
  ColumnOrder order_;
  std::uint64_t cols_;
  std::uint64_t lanes_;
  std::uint64_t depth_;
  AlignedBuffer<float> f32_;
  AlignedBuffer<std::uint16_t> bf16_;
};

// Writes sums into y: with the bias, added to what is there if asked for, rounded to y's dtype. Threads: any, for
// elements that are different.
class Output {
 public:
  Output(const Matrix& y, const MatmulOptions& options);
  // y[i][j + n] gets values[n * stride], n < count.
  void store(std::uint64_t i, std::uint64_t j, std::uint64_t count, const float* values, std::uint64_t stride) const;

 private:
  Matrix y_;
  bool accumulate_;
  std::vector<float> bias_;  // Empty: none.
};

}  // namespace cdna
