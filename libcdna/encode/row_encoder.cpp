// One row at a time, in chunks that stay in the cache: scale, outliers, codes, decoded values, error.
#include "libcdna/encode/row_encoder.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "libcdna/encode/bit_packing.hpp"
#include "libcdna/encode/codebook_options.hpp"
#include "libcdna/encode/entropy.hpp"
#include "libcdna/encode/scale_table.hpp"
#include "libcdna/encode/value_rows.hpp"

namespace cdna {
namespace {

// As the kernel does, for values of 64 bits.
void add_error(cdna_error_sums& sums, std::size_t lane, double value, double decoded) {
  const double distance = value - sums.pivot;
  const double square = distance * distance;
  const double error = value - decoded;
  sums.d[lane] += distance;
  sums.d2[lane] += square;
  sums.d3[lane] += square * distance;
  sums.d4[lane] += square * square;
  sums.w2[lane] += value * value;
  sums.error2[lane] += error * error;
  sums.error_max[lane] = std::max(sums.error_max[lane], std::abs(error));
}

// Those of the finite values: the others were added as 0.
CentralMoments moments_of(const cdna_error_sums& sums, std::uint64_t finite, std::uint64_t others) {
  const double zeros = static_cast<double>(others);
  const double at = -sums.pivot;
  return CentralMoments::about(sums.pivot, static_cast<double>(finite), total_of(sums.d) - zeros * at,
                               total_of(sums.d2) - zeros * at * at, total_of(sums.d3) - zeros * at * at * at,
                               total_of(sums.d4) - zeros * at * at * at * at);
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
  w2 += other.w2;
  moments.add(other.moments);
  error2 += other.error2;
  error_max = std::max(error_max, other.error_max);
  outlier_count += other.outlier_count;
  for (std::size_t i = 0; i < code_counts.size(); ++i) code_counts[i] += other.code_counts[i];
}

TensorStatistics ErrorSums::statistics() const {
  TensorStatistics statistics;
  statistics.sum_squares = w2;
  statistics.sum_squared_error = error2;
  statistics.max_abs_error = static_cast<double>(rounded_up(error_max));
  statistics.outlier_count = outlier_count;
  statistics.excess_kurtosis = moments.excess_kurtosis();
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
  sums.pivot = pivot_of(rows);
  nonfinite_count_ = 0;
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
  out_.sums.w2 = total_of(sums.w2);
  out_.sums.moments = moments_of(sums, position_ - nonfinite_count_, nonfinite_count_);
  out_.sums.error2 = total_of(sums.error2);
  out_.sums.error_max = *std::max_element(std::begin(sums.error_max), std::end(sums.error_max));
  out_.sums.outlier_count = out_.outlier_positions.size();
  out_.sums.code_counts = counts.totals();
  return std::move(out_);
}

// The mean of the first values: near that of all.
double RowEncoder::pivot_of(std::span<const std::byte> rows) {
  const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, coding_.cols));
  double sum = 0;
  for (const float value : finite_values_at(coding_.dtype, rows, 0, count, x_)) sum += static_cast<double>(value);
  return static_cast<double>(static_cast<float>(sum / static_cast<double>(count)));
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
  const std::span<const float> values = values_at(coding_.dtype, row.bytes, 0, count, x_);
  kernels_.divide(values.data(), count, row.rms, scaled_.data());
  std::size_t kept = count;
  if (kernels_.find_large(scaled_.data(), count, coding_.outlier_bound, places_.data()) > 0) {
    const auto is_outlier = [this](float v) { return !(std::abs(v) < coding_.outlier_bound); };
    const auto end = std::remove_if(scaled_.begin(), scaled_.begin() + static_cast<std::ptrdiff_t>(count), is_outlier);
    kept = static_cast<std::size_t>(end - scaled_.begin());
  }
  const cdna_scale_table& table = ScaleTable::for_rows();
  const std::uint8_t start = ScaleTable::kRowStart;
  std::uint8_t number = 0;
  kernels_.search_scales(&coding_.codebook->tables(), &table, scaled_.data(), kept, kChunk, &start, &number);
  if (number == 0) return row.rms;
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
  if (all_finite(values_)) return;
  note_large(values_.data(), kInfinity);
  nonfinite_count_ += place_count_;
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
  search_without_outliers(count);
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

// Searches again in groups that have outliers, which are 0 so far.
void RowEncoder::search_without_outliers(std::size_t count) {
  const std::size_t group = coding_.options.group;
  std::array<float, kGroupMax> kept;
  for (std::size_t next = 0; next < place_count_;) {
    const std::size_t number = places_[next] / group;
    const std::size_t end = std::min((number + 1) * group, count);
    std::size_t kept_count = 0;
    for (std::size_t i = number * group; i < end; ++i) {
      if (next < place_count_ && places_[next] == i) {
        ++next;
      } else {
        kept[kept_count++] = scaled_[i];
      }
    }
    kernels_.search_scales(&coding_.codebook->tables(), &coding_.scales->table(), kept.data(), kept_count, kGroupMax,
                           &starts_[number], &numbers_[number]);
  }
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
    const bool finite = std::isfinite(static_cast<float>(value));
    const double decoded = outlier ? value : static_cast<double>(decoded_[i]);
    add_error(row.sums, (position_ + first + i) % 8, finite ? value : 0, finite ? decoded : 0);
  }
}

}  // namespace cdna
