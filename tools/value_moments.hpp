// Sums over the values of a tensor, as a check recomputes them: exact enough to judge what was recorded.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace cdna::tools {

// Mean and central moments, gathered part by part (Pebay, Formulas for robust one-pass parallel computation of
// covariances and arbitrary-order statistical moments, 2008): each part around its own mean, so that a mean far from 0
// costs no digits.
class ValueMoments {
 public:
  // Values that are not finite are passed over.
  void add(std::span<const double> values);
  // m4 / m2^2 - 3; 0 where there is no spread.
  double excess_kurtosis() const;

 private:
  void add_part(std::span<const double> values);

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
  long double sum_squares = 0;        // Of finite source values.
  long double sum_squared_error = 0;  // Likewise.
  double max_abs_error = 0;           // +Inf where a finite value is decoded to one that is not.
  // Requires: as many of both.
  void add(std::span<const double> source, std::span<const double> decoded);
  void add(const ErrorSums& other);
};

}  // namespace cdna::tools
