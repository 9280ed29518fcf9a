// Values of the codebook encoding (spec/format.md, 13.2): s = RN(group * row), w = RN(codebook[code] * s).
#pragma once

#include <cstdint>
#include <span>

#include "cdna/dtype.hpp"
#include "cdna/error.hpp"
#include "libcdna/file.hpp"

namespace cdna {

// Reads the codebook, widened; checks E3. Requires: a supported codebook tensor.
Result<std::vector<float>> load_codebook(const File& file, std::uint32_t item);

// Reads codebook and scale table; checks E3. Requires: a supported codebook tensor.
Result<CodebookTables> load_codebook_tables(const File& file, std::uint32_t item);

// How the rows of one tensor are decoded.
struct RowDecoder {
  std::span<const float> codebook;
  std::span<const float> scale_table;
  std::uint32_t bits = 0;
  std::uint32_t group = 0;  // 0: no group scales.
  DType group_dtype = DType::none;
  bool has_row_scale = false;

  static RowDecoder of(const ItemView& view, const CodebookTables& tables);
  // Of exact elements of a small float: patterns are codes. Requires: is_small_float(dtype).
  static RowDecoder of(DType dtype);

  // out[i] = value of code i. `codes` begins at a code whose column is a multiple of the group; group_scales with its
  // group.
  void decode(std::span<const std::byte> codes, float row_scale, std::span<const std::byte> group_scales,
              std::span<float> out) const;

  // The value of one code, its scale given.
  float value(std::span<const std::byte> codes, std::uint64_t index, float scale) const;
  float entry(std::span<const std::byte> codes, std::uint64_t index) const;
  // RN(group * row): of the group of number `index`, 1 without scales.
  float scale(float row_scale, std::span<const std::byte> group_scales, std::uint64_t index) const;

 private:
  float scale_of(float row_scale, std::span<const std::byte> group_scales, std::uint64_t index) const;
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
