// Sums over the values of a tensor, as a check recomputes them: exact enough to judge what was recorded.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace cdna::tools {

// Whether the f32 nearest to a value is finite: all sums are over such values.
bool is_finite_f32(double value);

// Mean and central moments, gathered part by part (Pebay, Formulas for robust one-pass parallel computation of
// covariances and arbitrary-order statistical moments, 2008): each part around its own mean, so that a mean far from 0
// costs no digits.
class ValueMoments {
 public:
  // Values that are not finite as f32 are passed over.
  void add(std::span<const double> values);
  // m4 / m2^2 - 3; 0 where there is no spread, or m2^2 is 0 in f64.
  double excess_kurtosis() const;
  // How far from that a figure may be whose m4 and m2^2 were rounded to f64, where those are below its normal numbers.
  double kurtosis_rounding() const;

 private:
  void add_part(std::span<const double> values);
  bool has_spread() const { return count_ > 0 && least_ < greatest_; }
  long double squared_variance() const { return m2_ / count_ * (m2_ / count_); }

  long double count_ = 0;
  long double mean_ = 0;
  long double m2_ = 0;
  long double m3_ = 0;
  long double m4_ = 0;
  double least_ = 0;
  double greatest_ = 0;
  std::vector<double> finite_;
};

// Frequencies of codes of 1..16 bits.
class CodeFrequencies {
 public:
  explicit CodeFrequencies(std::uint32_t bits) : bits_(bits), counts_(std::size_t{1} << bits) {}
  // A row of `count` codes, packed from the least significant bit (spec/format.md, 8.2).
  void add_row(std::span<const std::byte> row, std::uint64_t count);
  double entropy_bits() const;

 private:
  std::uint32_t bits_;
  std::vector<std::uint64_t> counts_;
};

// Of source values and what they were decoded to.
struct ErrorSums {
  long double sum_squares = 0;        // Of source values that are finite as f32.
  long double sum_squared_error = 0;  // Likewise.
  double max_abs_error = 0;           // +Inf where such a value is decoded to one that is not finite.
  // Requires: as many of both.
  void add(std::span<const double> source, std::span<const double> decoded);
  void add(const ErrorSums& other);
};

}  // namespace cdna::tools
