// Values of planes in memory, one by one as spec/format.md, 13.2 has them: short, not fast.
#include "libcdna/encode/planes.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "cdna/encode.hpp"
#include "libcdna/decode/codebook.hpp"
#include "libcdna/format/float_bits.hpp"

namespace cdna {
namespace {

// Arithmetic that yields NaN yields one NaN on all machines.
float canonical(float result) { return std::isnan(result) ? std::bit_cast<float>(kProductNan) : result; }

// Parts of rows, one after the other: the columns from `begin` on that `out` has.
class PlanesDecoder {
 public:
  PlanesDecoder(const EncodedPlanes& planes, std::uint64_t cols)
      : planes_(planes),
        cols_(cols),
        row_bytes_((cols / planes.vector * planes.bits + 7) / 8),
        groups_(planes.group == 0 ? 0 : (cols + planes.group - 1) / planes.group) {}

  // Without outliers, low rank and column scales, which come after them.
  void decode_codes(std::uint64_t row, std::uint64_t begin, std::span<float> out) const {
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::uint64_t column = begin + i;
      const std::size_t entry = code_at(row, column / planes_.vector) * planes_.vector + column % planes_.vector;
      out[i] = scaled(planes_.codebook[entry], row, column);
    }
  }

  void add_low_rank(std::uint64_t row, std::uint64_t begin, std::span<float> out) const {
    const std::size_t rank = planes_.low_rank_factors.size();
    if (rank == 0) return;
    for (std::size_t i = 0; i < out.size(); ++i) {
      float sum = 0;
      for (std::size_t t = 0; t < rank; ++t) {
        const float left = planes_.low_rank_left[row * rank + t] * planes_.low_rank_factors[t];
        sum = std::fma(left, planes_.low_rank_right[t * cols_ + begin + i], sum);
      }
      out[i] = canonical(out[i] + sum);
    }
  }

  void divide_by_column_scales(std::uint64_t begin, std::span<float> out) const {
    if (planes_.column_scales.empty()) return;
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = canonical(out[i] / planes_.column_scales[begin + i]);
  }

 private:
  std::uint32_t code_at(std::uint64_t row, std::uint64_t index) const {
    const std::byte* const codes = planes_.codes.data() + row * row_bytes_;
    const std::uint64_t bit = index * planes_.bits;
    std::uint32_t window = 0;  // Up to 16 bits at any of 8 positions: three bytes.
    for (std::uint64_t i = 0; i < 3 && bit / 8 + i < row_bytes_; ++i)
      window |= std::to_integer<std::uint32_t>(codes[bit / 8 + i]) << (8 * i);
    return window >> (bit % 8) & ((1U << planes_.bits) - 1);
  }

  float scaled(float entry, std::uint64_t row, std::uint64_t column) const {
    if (planes_.group == 0) return planes_.row_scales.empty() ? entry : canonical(entry * planes_.row_scales[row]);
    const std::uint64_t group = row * groups_ + column / planes_.group;
    float scale =
        planes_.scale_table.empty() ? planes_.group_factors[group] : planes_.scale_table[planes_.group_scales[group]];
    if (!planes_.row_scales.empty()) scale = canonical(scale * planes_.row_scales[row]);
    const float value = canonical(entry * scale);
    if (planes_.group_offsets.empty()) return value;
    return canonical(value + planes_.group_offsets[group]);
  }

  const EncodedPlanes& planes_;
  const std::uint64_t cols_;
  const std::uint64_t row_bytes_;
  const std::uint64_t groups_;
};

// The outliers among the elements from `begin` on that `out` has.
void put_outliers(const EncodedPlanes& planes, DType dtype, std::uint64_t begin, std::span<float> out) {
  const DType outlier_dtype = planes.outlier_dtype == DType::none ? dtype : planes.outlier_dtype;
  const std::size_t value_bytes = bits_of(outlier_dtype) / 8;
  const std::span<const std::uint64_t> positions = planes.outlier_positions;
  const auto first = std::lower_bound(positions.begin(), positions.end(), begin);
  const auto last = std::lower_bound(first, positions.end(), begin + out.size());
  for (auto position = first; position != last; ++position) {
    const auto number = static_cast<std::size_t>(position - positions.begin());
    convert_value(outlier_dtype, planes.outlier_values.data() + number * value_bytes, DType::f32,
                  reinterpret_cast<std::byte*>(&out[*position - begin]));
  }
}

// Calls part(row, its first column, the values) for each row that the elements from `begin` on are of.
template <class Part>
void for_each_row(std::uint64_t cols, std::uint64_t begin, std::span<float> out, const Part& part) {
  std::uint64_t row = begin / cols;
  std::uint64_t column = begin % cols;
  for (std::size_t done = 0; done < out.size(); ++row, column = 0) {
    const std::size_t size = std::min<std::size_t>(cols - column, out.size() - done);
    part(row, column, out.subspan(done, size));
    done += size;
  }
}

}  // namespace

void decode_elements(const EncodedPlanes& planes, DType dtype, std::uint64_t cols, std::uint64_t begin,
                     std::span<float> out) {
  if (out.empty()) return;
  const PlanesDecoder decoder(planes, cols);
  for_each_row(cols, begin, out, [&](std::uint64_t row, std::uint64_t column, std::span<float> values) {
    decoder.decode_codes(row, column, values);
  });
  put_outliers(planes, dtype, begin, out);
  for_each_row(cols, begin, out, [&](std::uint64_t row, std::uint64_t column, std::span<float> values) {
    decoder.add_low_rank(row, column, values);
    decoder.divide_by_column_scales(column, values);
  });
}

void decode(const EncodedPlanes& planes, DType dtype, std::uint64_t cols, std::uint64_t row_begin,
            std::span<float> out) {
  decode_elements(planes, dtype, cols, row_begin * cols, out);
}

}  // namespace cdna
