// Central moments of values that come in parts.
#pragma once

#include <cstdint>

namespace cdna {

// Source: Pebay 2008, "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order
// statistical moments". Sums, not means: m2 is the sum of the squared distances from the mean.
struct CentralMoments {
  double count = 0;
  double mean = 0;
  double m2 = 0;
  double m3 = 0;
  double m4 = 0;

  // From sums of powers of the distance from `pivot`. What cancels out but for rounding is 0.
  static CentralMoments about(double pivot, double count, double d, double d2, double d3, double d4);
  void add(const CentralMoments& other);
  // m4 / m2^2 - 3 with means for sums; 0 where all values are equal, or too near 0 for f64.
  double excess_kurtosis() const;
};

}  // namespace cdna
