// Dot products of one row of weights with some rows of x, straight from what the file holds.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "libcdna/matmul/job.hpp"
#include "libcdna/matmul/operands.hpp"

namespace cdna {

class RowDot {
 public:
  static constexpr std::uint64_t kRows = CDNA_DOT_ROWS_MAX;

  // Of `rows` rows of x.
  RowDot(const Job& job, const Weights& weights, const PackedRows& x, std::uint64_t rows);
  RowDot(const RowDot&) = delete;
  RowDot& operator=(const RowDot&) = delete;

  void clear();
  void add(const WeightRow& row);  // The next piece of the row.
  // sums[i], i < rows: y before bias.
  void finish(float row_scale, float* sums) const;

  static u128 scratch_bytes(std::uint64_t rows, const Weights& weights);

 private:
  void add_codes(const WeightRow& row);
  void add_piece(const cdna_code_row& codes, std::uint64_t at);
  void add_values(const WeightRow& row);
  void correct_outliers(const WeightRow& row);
  float correction(const WeightRow& row, std::uint64_t column, float value) const;

  Math math_;
  const cdna_f32_kernels& f32_;
  const cdna_bf16_kernels& bf16_;
  const cdna_int8_kernels& int8_;
  const Weights& weights_;
  const PackedRows& x_;
  std::uint64_t rows_;
  float sum_unit_;
  RowDecoder decoder_;                // With entries_.
  std::array<float, 256> entries_{};  // As the kernels of this job see them.
  AlignedBuffer<float> sums_;         // [rows, up to a multiple of 4][16]
  std::vector<float> corrections_;    // [rows]: what outliers add to the sums.
  std::vector<float> scales_;
  AlignedBuffer<float> values_;
  AlignedBuffer<std::uint16_t> words_;
};

}  // namespace cdna
