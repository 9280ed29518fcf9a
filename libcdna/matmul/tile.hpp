// Rows of weights decoded to f32 or bf16, some rows and columns at a time, for kernels that multiply tiles.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "libcdna/matmul/job.hpp"
#include "libcdna/matmul/operands.hpp"

namespace cdna {

class Tile {
 public:
  struct Shape {
    std::uint64_t rows;
    std::uint64_t cols;  // A multiple of CDNA_CHUNK.
  };

  // bf16: words for the bf16 kernels; else f32, rounded to bf16 numbers if math is bf16 (transposed).
  Tile(const Job& job, const Weights& weights, bool words, Shape shape);

  // What decoded elements of a row have to be multiplied by to be w. Words of codes without group scales stay without
  // the row's scale, too, where the sum can be multiplied instead: that is three times as fast.
  float factor_of(const WeightRow& row) const;

  // The rows that the next decode() are of, with their factors; no more than the shape has. Both live as long as they
  // are used.
  void begin(std::span<const WeightRow> rows, std::span<const float> factors) {
    rows_ = rows;
    factors_ = factors;
  }
  // Decodes columns [first, first + count) of these rows in packed order, up to a whole chunk: values past the last
  // column are finite. first is a multiple of CDNA_CHUNK, count <= the shape's.
  void decode(std::uint64_t first, std::uint64_t count);

  const float* f32() const { return f32_.data(); }
  const std::uint16_t* bf16() const { return words_.data(); }

  // Element (r, j) is at r * stride() + j. Rows do not lie powers of two apart: they would compete for the same few
  // places of the first-level cache.
  std::uint64_t stride() const { return stride_of(shape_); }

  static std::uint64_t scratch_bytes(Shape shape);

 private:
  static std::uint64_t stride_of(Shape shape) { return shape.cols + 32; }
  void decode_codes(std::size_t number, std::uint64_t first, std::uint64_t count);
  void decode_values(const WeightRow& row, std::uint64_t first, std::uint64_t count, std::uint64_t place);
  void clear_words(std::uint64_t place, std::uint64_t count);
  void put_outliers(std::uint64_t number, std::uint64_t first, std::uint64_t count);

  const Job& job_;
  const Weights& weights_;
  ColumnOrder order_;
  bool words_used_;
  Shape shape_;
  std::span<const WeightRow> rows_;
  std::span<const float> factors_;
  std::vector<float> scales_;
  AlignedBuffer<float> f32_;            // [rows][stride]
  AlignedBuffer<std::uint16_t> words_;  // The same.
};

}  // namespace cdna
