// Values of the codebook encoding (spec/format.md, 13.2): s = RN(group * row), w = RN(codebook[code] * s), and what
// comes after that.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "cdna/dtype.hpp"
#include "cdna/error.hpp"
#include "libcdna/file.hpp"

namespace cdna {

// Reads the codebook, widened; checks E3. Requires: a supported codebook tensor.
Result<std::vector<float>> load_codebook(const File& file, std::uint32_t item);

// Reads codebook and scale table; checks E3. Requires: a supported codebook tensor.
Result<CodebookTables> load_codebook_tables(const File& file, std::uint32_t item);

// Whether a tensor has a matrix of low rank or column scales.
bool has_finish_tables(const ItemView& view);
// Reads them. Requires: a supported codebook tensor.
Result<FinishTables> load_finish_tables(const File& file, std::uint32_t item);

// How the rows of one tensor are decoded.
struct RowDecoder {
  std::span<const float> codebook;
  std::span<const float> scale_table;
  std::uint32_t bits = 0;
  std::uint32_t group = 0;  // 0: no group scales.
  DType group_dtype = DType::none;
  bool has_row_scale = false;
  std::uint32_t vector = 1;          // Elements that a code stands for.
  DType offset_dtype = DType::none;  // none: no group offsets.
  // Of what comes after the outliers.
  std::uint64_t rank = 0;
  bool has_column_scales = false;
  std::shared_ptr<const FinishTables>
      finish_tables;  // What finish() needs, and nothing else: whoever calls it sets it.

  static RowDecoder of(const ItemView& view, const CodebookTables& tables);
  // Of exact elements of a small float: patterns are codes. Requires: is_small_float(dtype).
  static RowDecoder of(DType dtype);

  // Whether there is nothing but what kernels know: codes of one element, groups of 32 or more, and scales.
  bool is_plain() const { return vector == 1 && group != 16 && offset_dtype == DType::none && !finishes(); }
  // Whether values change after the outliers are in their places.
  bool finishes() const { return rank != 0 || has_column_scales; }

  // out[i] = value of element i, outliers and what comes after them apart. `codes` begins at a code whose column is a
  // multiple of the group; group_scales and group_offsets with its group. out.size() is a multiple of `vector`.
  void decode(std::span<const std::byte> codes, float row_scale, std::span<const std::byte> group_scales,
              std::span<const std::byte> group_offsets, std::span<float> out) const;

  // What comes after the outliers, for columns [column, column + values.size()) of a row. `left` is its row of the
  // matrix of low rank. Requires: finish_tables where finishes(); column is a multiple of 64.
  void finish(std::span<const float> left, std::uint64_t column, std::span<float> values) const;

  // The value of one code, its scale given. These four: of codes of one element.
  float value(std::span<const std::byte> codes, std::uint64_t index, float scale) const;
  float entry(std::span<const std::byte> codes, std::uint64_t index) const;
  // RN(group * row): of the group of number `index`, 1 without scales.
  float scale(float row_scale, std::span<const std::byte> group_scales, std::uint64_t index) const;

 private:
  float scale_of(float row_scale, std::span<const std::byte> group_scales, std::uint64_t index) const;
  void decode_run(std::span<const std::byte> codes, std::uint64_t begin, float factor, std::span<float> out) const;
  void add_low_rank(std::span<const float> left, std::uint64_t column, std::span<float> values) const;
};

// value - entry * scale: what an outlier adds to the product that its code stands for. Where that is beyond f32, as the
// encoder's outliers may be, the difference mostly is not.
float outlier_difference(float value, float entry, float scale);

// Writes one value of a float dtype, read from `value` (little-endian, of `from`), as `to`: bit for bit where they are
// equal, else through f32 (f64 where `to` is F64).
void convert_value(DType from, const std::byte* value, DType to, std::byte* out);

// Writes f32 values as `dtype` (F16, BF16, F32, F64).
void convert_values(std::span<const float> values, DType dtype, std::byte* out);

}  // namespace cdna
