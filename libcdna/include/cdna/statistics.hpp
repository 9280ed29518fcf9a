// How far a compressed tensor is from its source, and what its codes and values are like.
#pragma once

#include <cstdint>

namespace cdna {

// Of one tensor. All sums are over its source values that are finite when rounded to f32, taken in the order of
// spec/format.md, section 17.
struct TensorStatistics {
  double sum_squares = 0;        // Of w; 0 for exact tensors, +Inf unknown.
  double sum_squared_error = 0;  // Of w - decoded; likewise.
  double max_abs_error = 0;      // At least the largest |w - decoded|, rounded up to f32.
  std::uint64_t outlier_count = 0;
  double excess_kurtosis = 0;    // m4 / m2^2 - 3, of such values; 0 where m2^2 is 0. NaN: not recorded.
  double code_entropy_bits = 0;  // Per code, of the frequencies of the codes. NaN: not recorded.

  // 10 log10(sum_squares / sum_squared_error); +Inf without error, NaN where the sums are unknown.
  double snr_db() const;
  // sqrt(sum_squared_error / sum_squares), the relative Frobenius error; 0 without error, NaN where unknown.
  double relative_error() const;
};

}  // namespace cdna
