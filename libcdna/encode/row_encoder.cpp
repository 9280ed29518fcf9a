// One row at a time, in chunks that stay in the cache: scale, outliers, codes, decoded values, error.
#include "libcdna/encode/row_encoder.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "libcdna/encode/bit_packing.hpp"
#include "libcdna/encode/entropy.hpp"
#include "libcdna/encode/scale_table.hpp"
#include "libcdna/encode/value_rows.hpp"

namespace cdna {
namespace {

double total_of(const double (&lanes)[8]) {
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

double kurtosis_of(const ErrorSums& sums) {
  if (sums.finite_count == 0) return 0;
  const auto count = static_cast<double>(sums.finite_count);
  const double mean = sums.w / count;
  const double square = sums.w2 / count;
  const double variance = square - mean * mean;
  if (!(variance > square * 0x1p-40)) return 0;  // What is left is rounding: all values are equal.
  if (!(variance * variance > 0)) return 0;      // F64 values whose fourth powers are 0 tell nothing.
  const double fourth =
      sums.w4 / count - 4 * mean * (sums.w3 / count) + 6 * mean * mean * square - 3 * mean * mean * mean * mean;
  return fourth / (variance * variance) - 3;
}

// As the kernel does, for values of 64 bits.
void add_error(cdna_error_sums& sums, std::size_t lane, double value, double decoded) {
  const double square = value * value;
  const double error = value - decoded;
  sums.w[lane] += value;
  sums.w2[lane] += square;
  sums.w3[lane] += square * value;
  sums.w4[lane] += square * square;
  sums.error2[lane] += error * error;
  sums.error_max[lane] = std::max(sums.error_max[lane], std::abs(error));
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::size_t kGroupMin = 32;
// Of a row whose scale is searched. That is worth 0.5 to 0.7 dB in rows of 384 and 0.3 dB in rows of 1536 (all-MiniLM-
// L6-v2), less in longer ones, and takes three times as long as all else.
constexpr std::uint64_t kSearchedColsMax = 2048;

}  // namespace

float rounded_up(double x) {
  const auto nearest = static_cast<float>(x);
  if (static_cast<double>(nearest) >= x) return nearest;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(nearest) + 1);
}

void ErrorSums::add(const ErrorSums& other) {
  w += other.w;
  w2 += other.w2;
  w3 += other.w3;
  w4 += other.w4;
  error2 += other.error2;
  error_max = std::max(error_max, other.error_max);
  finite_count += other.finite_count;
  outlier_count += other.outlier_count;
  for (std::size_t i = 0; i < code_counts.size(); ++i) code_counts[i] += other.code_counts[i];
}

TensorStatistics ErrorSums::statistics() const {
  TensorStatistics statistics;
  statistics.sum_squares = w2;
  statistics.sum_squared_error = error2;
  statistics.max_abs_error = static_cast<double>(rounded_up(error_max));
  statistics.outlier_count = outlier_count;
  statistics.excess_kurtosis = kurtosis_of(*this);
  statistics.code_entropy_bits = entropy_bits(code_counts);
  return statistics;
}

struct RowEncoder::Row {
  std::span<const std::byte> bytes;
  float rms = 0;
  float scale = 0;      // What is stored.
  std::uint8_t* codes;  // [cols]
  cdna_error_sums& sums;
};

RowEncoder::RowEncoder(const RowCoding& coding)
    : coding_(coding),
      kernels_(codebook_kernels()),
      code_of_zero_(coding.codebook->code_of_zero()),
      x_(kChunk),
      scaled_(kChunk),
      decoded_(kChunk),
      places_(2 * kChunk),
      starts_(kChunk / kGroupMin),
      numbers_(kChunk / kGroupMin),
      row_codes_(coding.codebook->bits() < 8 ? coding.cols : 0) {}

EncodedRows RowEncoder::encode(std::span<const std::byte> rows, std::span<std::byte> codes) {
  const std::uint64_t row_count = rows.size() / coding_.row_bytes();
  out_ = {};
  position_ = 0;
  out_.row_scales.reserve(row_count);
  out_.group_scales.reserve(row_count * coding_.group_count());
  cdna_error_sums sums{};
  CodeCounts counts;
  const bool packed = coding_.codebook->bits() < 8;
  for (std::uint64_t i = 0; i < row_count; ++i) {
    std::byte* const stored = codes.data() + i * coding_.code_bytes();
    std::uint8_t* const row_codes = packed ? row_codes_.data() : reinterpret_cast<std::uint8_t*>(stored);
    Row row{rows.subspan(i * coding_.row_bytes(), coding_.row_bytes()), 0, 0, row_codes, sums};
    encode_row(row);
    counts.add({row_codes, coding_.cols});
    if (packed) pack_codes({row_codes, coding_.cols}, coding_.codebook->bits(), stored);
  }
  out_.sums.w = total_of(sums.w);
  out_.sums.w2 = total_of(sums.w2);
  out_.sums.w3 = total_of(sums.w3);
  out_.sums.w4 = total_of(sums.w4);
  out_.sums.error2 = total_of(sums.error2);
  out_.sums.error_max = *std::max_element(std::begin(sums.error_max), std::end(sums.error_max));
  out_.sums.outlier_count = out_.outlier_positions.size();
  out_.sums.code_counts = counts.totals();
  return std::move(out_);
}

void RowEncoder::encode_row(Row& row) {
  measure(row);
  out_.row_scales.push_back(row.scale);
  for (std::uint64_t first = 0; first < coding_.cols; first += kChunk) {
    encode_chunk(row, first, static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, coding_.cols - first)));
  }
  position_ += coding_.cols;
}

void RowEncoder::measure(Row& row) {
  const bool grouped = coding_.options.group != 0;
  if (!grouped || std::isfinite(coding_.outlier_bound))
    row.rms = summary_of(coding_.dtype, row.bytes, coding_.cols).rms;
  if (grouped) {
    row.scale = magnitude_of(coding_.dtype, row.bytes, coding_.cols, row.rms, coding_.outlier_bound);
  } else {
    row.scale = coding_.cols <= kSearchedColsMax ? searched_scale(row) : row.rms;
  }
}

// The best of nine factors of the rms, by the error of the values that are no outliers.
float RowEncoder::searched_scale(const Row& row) {
  if (!(row.rms > 0)) return row.rms;
  const auto count = static_cast<std::size_t>(coding_.cols);
  const std::span<const float> values = finite_values_at(coding_.dtype, row.bytes, 0, count, x_);
  kernels_.divide(values.data(), count, row.rms, scaled_.data());
  const std::size_t found = kernels_.find_large(scaled_.data(), count, coding_.outlier_bound, places_.data());
  for (std::size_t i = 0; i < found; ++i) scaled_[places_[i]] = 0;
  const cdna_scale_table& table = ScaleTable::for_rows();
  const std::uint8_t start = ScaleTable::kRowStart;
  std::uint8_t number = 0;
  kernels_.search_scales(&coding_.codebook->tables(), &table, scaled_.data(), count, kChunk, &start, &number);
  const float scale = row.rms * table.values[number];
  return std::isfinite(scale) ? scale : row.rms;  // Of the largest numbers, a factor above 1 has no product.
}

void RowEncoder::encode_chunk(Row& row, std::uint64_t first, std::size_t count) {
  place_count_ = 0;
  values_ = values_at(coding_.dtype, row.bytes, first, count, x_);
  set_nonfinite_aside(first);
  if (row.rms > 0) {
    kernels_.divide(values_.data(), count, row.rms, scaled_.data());
    if (std::isfinite(coding_.outlier_bound)) note_large(scaled_.data(), coding_.outlier_bound);
  }
  if (!(row.scale > 0)) {
    encode_zeros(row, first, count);
  } else if (coding_.options.group == 0) {
    if (row.scale != row.rms) kernels_.divide(values_.data(), count, row.scale, scaled_.data());
    kernels_.nearest(&coding_.codebook->tables(), scaled_.data(), count, row.codes + first);
    kernels_.decode(&coding_.codebook->tables(), row.codes + first, count, row.scale, decoded_.data());
  } else {
    encode_groups(row, first, count);
  }
  // The largest group scale is below 2; it alone may be what goes beyond f32.
  if (!std::isfinite(row.scale * std::max(1.0F, coding_.codebook->magnitude()) * 2))
    note_large(decoded_.data(), kInfinity);
  keep_outliers(row, first);
  add_errors(row, first, count);
}

void RowEncoder::set_nonfinite_aside(std::uint64_t first) {
  out_.sums.finite_count += values_.size();
  if (all_finite(values_)) return;
  note_large(values_.data(), kInfinity);
  out_.sums.finite_count -= place_count_;
  if (!out_.first_nonfinite) out_.first_nonfinite = position_ + first + places_[0];
  if (values_.data() != x_.data()) std::copy(values_.begin(), values_.end(), x_.begin());
  for (std::size_t i = 0; i < place_count_; ++i) x_[places_[i]] = 0;
  values_ = std::span<const float>(x_).first(values_.size());
}

// Adds the places of those of the chunk's values from `bound` on to those of the chunk's outliers.
void RowEncoder::note_large(const float* values, float bound) {
  const std::size_t before = place_count_;
  const std::size_t found = kernels_.find_large(values, values_.size(), bound, places_.data() + before);
  if (found == 0) return;
  const auto begin = places_.begin();
  const auto end = begin + static_cast<std::ptrdiff_t>(before + found);
  std::inplace_merge(begin, begin + static_cast<std::ptrdiff_t>(before), end);
  place_count_ = static_cast<std::size_t>(std::unique(begin, end) - begin);
}

void RowEncoder::encode_zeros(const Row& row, std::uint64_t first, std::size_t count) {
  std::fill_n(row.codes + first, count, code_of_zero_);
  std::fill_n(decoded_.begin(), count, 0.0F);
  const std::uint32_t group = coding_.options.group;
  if (group != 0) out_.group_scales.insert(out_.group_scales.end(), (count + group - 1) / group, std::uint8_t{0});
}

void RowEncoder::encode_groups(const Row& row, std::uint64_t first, std::size_t count) {
  const std::size_t group = coding_.options.group;
  const cdna_codebook& codebook = coding_.codebook->tables();
  const cdna_scale_table& scales = coding_.scales->table();
  kernels_.divide(values_.data(), count, row.scale, scaled_.data());
  for (std::size_t i = 0; i < place_count_; ++i) scaled_[places_[i]] = 0;
  coding_.scales->find_starts(kernels_, std::span(scaled_).first(count), group, starts_.data());
  kernels_.search_scales(&codebook, &scales, scaled_.data(), count, group, starts_.data(), numbers_.data());
  multiply_groups(scales.inverses, 1, scaled_, count);
  kernels_.nearest(&codebook, scaled_.data(), count, row.codes + first);
  kernels_.decode(&codebook, row.codes + first, count, 1, decoded_.data());
  multiply_groups(scales.values, row.scale, decoded_, count);
  const std::size_t groups = (count + group - 1) / group;
  for (std::size_t i = 0; i < groups; ++i) {
    if (numbers_[i] != 0) continue;
    const std::size_t begin = i * group;
    std::fill_n(row.codes + first + begin, std::min(group, count - begin), code_of_zero_);
  }
  out_.group_scales.insert(out_.group_scales.end(), numbers_.begin(),
                           numbers_.begin() + static_cast<std::ptrdiff_t>(groups));
}

// Multiplies each group by the entry of its number in `table` times `scale`, rounded once for itself.
void RowEncoder::multiply_groups(const float* table, float scale, std::vector<float>& values, std::size_t count) const {
  const std::size_t group = coding_.options.group;
  for (std::size_t begin = 0; begin < count; begin += group) {
    const float factor = table[numbers_[begin / group]] * scale;
    kernels_.multiply(values.data() + begin, std::min(group, count - begin), factor, values.data() + begin);
  }
}

void RowEncoder::keep_outliers(const Row& row, std::uint64_t first) {
  const std::uint64_t size = bits_of(coding_.dtype) / 8;
  for (std::size_t i = 0; i < place_count_; ++i) {
    const std::span<const std::byte> value = row.bytes.subspan((first + places_[i]) * size, size);
    out_.outlier_values.insert(out_.outlier_values.end(), value.begin(), value.end());
    out_.has_nonfinite = out_.has_nonfinite || !std::isfinite(value_at(coding_.dtype, value, 0));
    out_.outlier_positions.push_back(static_cast<std::uint32_t>(position_ + first + places_[i]));
    decoded_[places_[i]] = values_[places_[i]];
  }
}

void RowEncoder::add_errors(const Row& row, std::uint64_t first, std::size_t count) {
  if (coding_.dtype != DType::f64) {
    kernels_.add_errors(values_.data(), decoded_.data(), count, position_ + first, &row.sums);
    return;
  }
  std::size_t next_outlier = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const bool outlier = next_outlier < place_count_ && places_[next_outlier] == i;
    if (outlier) ++next_outlier;
    const double value = value_at(coding_.dtype, row.bytes, first + i);
    if (!std::isfinite(static_cast<float>(value))) continue;
    add_error(row.sums, (position_ + first + i) % 8, value, outlier ? value : static_cast<double>(decoded_[i]));
  }
}

}  // namespace cdna
