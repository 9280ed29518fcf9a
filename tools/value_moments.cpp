// Short sums in f64, of which long double sums are made: their rounding is 1e-11 at most.
#include "tools/value_moments.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace cdna::tools {
namespace {

constexpr std::size_t kPart = 4096;
constexpr long double kLeastF64 = 0x1p-1074L;

}  // namespace

bool is_finite_f32(double value) {
  // Halfway from the largest f32 to what would be the next, where rounding to even goes up.
  return std::abs(value) < 0x1.ffffffp127;
}

void ValueMoments::add(std::span<const double> values) {
  for (; !values.empty(); values = values.subspan(std::min(kPart, values.size()))) {
    const std::span<const double> part = values.first(std::min(kPart, values.size()));
    finite_.clear();
    std::copy_if(part.begin(), part.end(), std::back_inserter(finite_), is_finite_f32);
    if (!finite_.empty()) add_part(finite_);
  }
}

void ValueMoments::add_part(std::span<const double> values) {
  const auto [least, greatest] = std::minmax_element(values.begin(), values.end());
  least_ = count_ == 0 ? *least : std::min(least_, *least);
  greatest_ = count_ == 0 ? *greatest : std::max(greatest_, *greatest);
  double sum = 0;
  for (const double value : values) sum += value;
  const auto n = static_cast<long double>(values.size());
  const double mean = static_cast<double>(static_cast<long double>(sum) / n);
  double first = 0;  // Not 0 exactly: `mean` is rounded.
  double m2 = 0;
  double m3 = 0;
  double m4 = 0;
  for (const double value : values) {
    const double d = value - mean;
    const double d2 = d * d;
    first += d;
    m2 += d2;
    m3 += d2 * d;
    m4 += d2 * d2;
  }
  const long double part_mean = static_cast<long double>(mean) + static_cast<long double>(first) / n;
  const long double all = count_ + n;
  const long double delta = part_mean - mean_;
  const long double d2 = delta * delta;
  const long double a = count_;
  const long double part_m2 = m2;
  const long double part_m3 = m3;
  m4_ += static_cast<long double>(m4) + d2 * d2 * a * n * (a * a - a * n + n * n) / (all * all * all) +
         6 * d2 * (a * a * part_m2 + n * n * m2_) / (all * all) + 4 * delta * (a * part_m3 - n * m3_) / all;
  m3_ += part_m3 + d2 * delta * a * n * (a - n) / (all * all) + 3 * delta * (a * part_m2 - n * m2_) / all;
  m2_ += part_m2 + d2 * a * n / all;
  mean_ += delta * n / all;
  count_ = all;
}

double ValueMoments::excess_kurtosis() const {
  if (!has_spread() || !(static_cast<double>(squared_variance()) > 0)) return 0;
  return static_cast<double>(m4_ / count_ / squared_variance() - 3);
}

double ValueMoments::kurtosis_rounding() const {
  if (!has_spread() || squared_variance() < kLeastF64 / 4) return 0;
  const double of_each = static_cast<double>(8 * kLeastF64 / squared_variance());
  return of_each * (4 + std::abs(excess_kurtosis()));
}

void CodeFrequencies::add_row(std::span<const std::byte> row, std::uint64_t count) {
  std::uint32_t window = 0;
  std::uint32_t held = 0;
  std::size_t next = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    for (; held < bits_; held += 8) window |= std::to_integer<std::uint32_t>(row[next++]) << held;
    ++counts_[window & ((1U << bits_) - 1)];
    window >>= bits_;
    held -= bits_;
  }
}

double CodeFrequencies::entropy_bits() const {
  long double all = 0;
  for (const std::uint64_t count : counts_) all += static_cast<long double>(count);
  long double bits = 0;
  for (const std::uint64_t count : counts_) {
    if (count == 0) continue;
    const long double share = static_cast<long double>(count) / all;
    bits -= share * std::log2(share);
  }
  return static_cast<double>(bits);
}

void ErrorSums::add(std::span<const double> source, std::span<const double> decoded) {
  for (std::size_t begin = 0; begin < source.size(); begin += kPart) {
    double squares = 0;
    double squared_error = 0;
    for (std::size_t i = begin; i < std::min(begin + kPart, source.size()); ++i) {
      if (!is_finite_f32(source[i])) continue;
      const double error = std::abs(source[i] - decoded[i]);
      squares += source[i] * source[i];
      squared_error += error * error;
      max_abs_error = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(max_abs_error, error);
    }
    sum_squares += static_cast<long double>(squares);
    sum_squared_error += static_cast<long double>(squared_error);
  }
}

void ErrorSums::add(const ErrorSums& other) {
  sum_squares += other.sum_squares;
  sum_squared_error += other.sum_squared_error;
  max_abs_error = std::max(max_abs_error, other.max_abs_error);
}

}  // namespace cdna::tools
