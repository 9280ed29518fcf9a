// Rows of a matrix into codes, scales and outliers, with their error: spec/format.md, 13.2 and 17.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cdna/dtype.hpp"
#include "cdna/preset.hpp"
#include "cdna/statistics.hpp"
#include "libcdna/encode/codebook.hpp"
#include "libcdna/encode/moments.hpp"
#include "libcdna/encode/scale_table.hpp"

namespace cdna {

// All that is the same for every row of a tensor.
struct RowCoding {
  DType dtype = DType::none;
  std::uint64_t cols = 0;
  CodebookOptions options;
  const Codebook* codebook = nullptr;
  const ScaleTable* scales = nullptr;  // With groups.
  float outlier_bound = 0;             // On |w| / rms of the row; +Inf: no outliers.

  std::uint64_t row_bytes() const { return cols * bits_of(dtype) / 8; }
  std::uint64_t code_bytes() const { return (cols * codebook->bits() + 7) / 8; }
  std::uint64_t group_count() const { return options.group == 0 ? 0 : (cols + options.group - 1) / options.group; }
};

// Sums over a tensor's values and codes; blocks are added in their order.
struct ErrorSums {
  double w2 = 0;
  CentralMoments moments;  // Of the finite values.
  double error2 = 0;
  double error_max = 0;
  std::uint64_t outlier_count = 0;
  std::array<std::uint64_t, 256> code_counts{};

  void add(const ErrorSums& other);
  TensorStatistics statistics() const;
};

// All but the codes.
struct EncodedRows {
  std::vector<float> row_scales;                 // [rows]
  std::vector<std::uint8_t> group_scales;        // [rows, group_count()]
  std::vector<std::byte> outlier_values;         // In the source dtype.
  std::vector<std::uint32_t> outlier_positions;  // From the first row's first element, ascending.
  ErrorSums sums;
  bool has_nonfinite = false;                    // A NaN or an infinity is among the outliers' values.
  std::optional<std::uint64_t> first_nonfinite;  // Position of a value that is not a finite f32; an outlier then.
};

// `x` rounded up to f32.
float rounded_up(double x);

class RowEncoder {
 public:
  explicit RowEncoder(const RowCoding& coding);

  // Requires: whole rows, fewer than 2^32 elements; codes: [rows, code_bytes()].
  EncodedRows encode(std::span<const std::byte> rows, std::span<std::byte> codes);

 private:
  struct Row;
  double pivot_of(std::span<const std::byte> rows);
  void encode_row(Row& row);
  void measure(Row& row);
  float searched_scale(const Row& row);
  void encode_chunk(Row& row, std::uint64_t first, std::size_t count);
  void set_nonfinite_aside(std::uint64_t first);
  void note_large(const float* values, float bound);
  void encode_zeros(const Row& row, std::uint64_t first, std::size_t count);
  void encode_groups(const Row& row, std::uint64_t first, std::size_t count);
  void search_without_outliers(std::size_t count);
  void multiply_groups(const float* table, float scale, std::vector<float>& values, std::size_t count) const;
  void keep_outliers(const Row& row, std::uint64_t first);
  void add_errors(const Row& row, std::uint64_t first, std::size_t count);

  const RowCoding coding_;
  const cdna_codebook_kernels& kernels_;
  std::uint8_t code_of_zero_;
  EncodedRows out_;
  std::uint64_t position_ = 0;  // Of the next row's first element.
  std::uint64_t nonfinite_count_ = 0;

  // One chunk of a row.
  static constexpr std::size_t kChunk = 4096;  // A multiple of every group.
  std::vector<float> x_;
  std::span<const float> values_;  // Where they are, or in x_; 0 where they are not finite.
  std::vector<float> scaled_;
  std::vector<float> decoded_;
  std::vector<std::uint32_t> places_;  // Of outliers in the chunk.
  std::size_t place_count_ = 0;
  std::vector<std::uint8_t> starts_;     // Of the chunk's groups.
  std::vector<std::uint8_t> numbers_;    // Of their scales.
  std::vector<std::uint8_t> row_codes_;  // With fewer than 8 bits.
};

}  // namespace cdna
