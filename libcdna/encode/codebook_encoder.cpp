// Row scales, codes, outliers and error sums.
#include "libcdna/encode/codebook_encoder.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "libcdna/format/float_bits.hpp"

namespace cdna {
namespace {

template <class T>
T load_at(std::span<const std::byte> bytes, std::uint64_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// Eight partial sums by position modulo 8, added as a fixed tree (spec/format.md, 17): an order that vector units can
// follow.
class LaneSum {
 public:
  void add(std::uint64_t index, double value) { lanes_[index % 8] += value; }
  double total() const {
    return ((lanes_[0] + lanes_[1]) + (lanes_[2] + lanes_[3])) + ((lanes_[4] + lanes_[5]) + (lanes_[6] + lanes_[7]));
  }

 private:
  std::array<double, 8> lanes_{};
};

void load_row(DType dtype, std::span<const std::byte> bytes, std::uint64_t first, std::span<double> row) {
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = value_at(dtype, bytes, first + i);
}

float rms_of(std::span<const double> row) {
  LaneSum sum;
  for (std::size_t i = 0; i < row.size(); ++i) sum.add(i, row[i] * row[i]);
  return static_cast<float>(std::sqrt(sum.total() / static_cast<double>(row.size())));
}

float rounded_up(double value) {
  const auto nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) >= value) return nearest;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(nearest) + 1);
}

// The code of 0: for rows whose scale is 0, so that they decode to +0 where the codebook has an entry that is not
// negative.
std::uint8_t code_of_zero(const Codebook& codebook) {
  for (std::size_t i = 0; i < Codebook::kSize; ++i) {
    if (!std::signbit(codebook.value[i])) return static_cast<std::uint8_t>(i);
  }
  return static_cast<std::uint8_t>(Codebook::kSize - 1);
}

// Encodes one block row by row.
class BlockEncoder {
 public:
  BlockEncoder(DType dtype, std::span<const std::byte> bytes, std::uint64_t cols, const Codebook& codebook,
               float threshold)
      : dtype_(dtype),
        bytes_(bytes),
        codebook_(codebook),
        threshold_(threshold),
        zero_code_(code_of_zero(codebook)),
        row_(cols) {}

  EncodedBlock encode(std::uint64_t row_count) {
    block_.codes.resize(row_count * row_.size());
    block_.row_scales.reserve(row_count);
    for (std::uint64_t row = 0; row < row_count; ++row) encode_row(row * row_.size());
    block_.outlier_count = positions_.size();
    const std::span<const std::byte> positions = std::as_bytes(std::span(positions_));
    block_.outliers.insert(block_.outliers.end(), positions.begin(), positions.end());
    block_.sum_squares = squares_.total();
    block_.sum_squared_error = squared_errors_.total();
    block_.max_abs_error = rounded_up(max_abs_error_);
    return std::move(block_);
  }

 private:
  void encode_row(std::uint64_t first) {
    load_row(dtype_, bytes_, first, row_);
    const float scale = rms_of(row_);
    block_.row_scales.push_back(scale);
    for (std::size_t i = 0; i < row_.size(); ++i) encode_value(first + i, row_[i], scale);
  }

  void encode_value(std::uint64_t position, double value, float scale) {
    squares_.add(position, value * value);
    const float scaled = scale > 0 ? static_cast<float>(value) / scale : 0.0F;
    const std::uint8_t code = scale > 0 ? codebook_.nearest(scaled) : zero_code_;
    block_.codes[position] = static_cast<std::byte>(code);
    const float decoded = codebook_.value[code] * scale;
    if (std::abs(scaled) >= threshold_ || !std::isfinite(decoded)) {
      add_outlier(position);
      return;
    }
    const double error = value - static_cast<double>(decoded);
    squared_errors_.add(position, error * error);
    max_abs_error_ = std::max(max_abs_error_, std::abs(error));
  }

  void add_outlier(std::uint64_t position) {
    const std::uint64_t size = bits_of(dtype_) / 8;
    const std::span<const std::byte> value = bytes_.subspan(position * size, size);
    block_.outliers.insert(block_.outliers.end(), value.begin(), value.end());
    positions_.push_back(static_cast<std::uint32_t>(position));
  }

  DType dtype_;
  std::span<const std::byte> bytes_;
  const Codebook& codebook_;
  float threshold_;
  std::uint8_t zero_code_;
  std::vector<double> row_;
  std::vector<std::uint32_t> positions_;
  LaneSum squares_;
  LaneSum squared_errors_;
  double max_abs_error_ = 0;
  EncodedBlock block_;
};

}  // namespace

double value_at(DType dtype, std::span<const std::byte> bytes, std::uint64_t index) {
  switch (dtype) {
    case DType::f16:
      return static_cast<double>(f32_of_f16(load_at<std::uint16_t>(bytes, index)));
    case DType::bf16:
      return static_cast<double>(f32_of_bf16(load_at<std::uint16_t>(bytes, index)));
    case DType::f64:
      return load_at<double>(bytes, index);
    default:
      return static_cast<double>(load_at<float>(bytes, index));
  }
}

std::optional<std::uint64_t> find_nonfinite(DType dtype, std::span<const std::byte> bytes, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    if (!std::isfinite(static_cast<float>(value_at(dtype, bytes, i)))) return i;
  }
  return std::nullopt;
}

void add_rows(DType dtype, std::span<const std::byte> bytes, std::uint64_t row_count, std::uint64_t cols,
              Histogram& histogram) {
  std::vector<double> row(cols);
  for (std::uint64_t r = 0; r < row_count; ++r) {
    load_row(dtype, bytes, r * cols, row);
    const float scale = rms_of(row);
    if (!(scale > 0)) continue;
    for (const double value : row) histogram.add(static_cast<float>(value) / scale);
  }
}

EncodedBlock encode_rows(DType dtype, std::span<const std::byte> bytes, std::uint64_t row_count, std::uint64_t cols,
                         const Codebook& codebook, float threshold) {
  return BlockEncoder(dtype, bytes, cols, codebook, threshold).encode(row_count);
}

}  // namespace cdna
