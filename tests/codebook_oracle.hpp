// The best possible codebook of a weighted histogram, by dynamic programming: what a fit is compared with.
#pragma once

#include <span>
#include <vector>

struct OptimalCodebook {
  std::vector<double> entries;  // Ascending, at most k: no more than there are distinct values.
  double squared_error = 0;     // Sum of weight * (value - nearest entry)^2, the least of all codebooks of k entries.
};

// An optimal quantiser of least squares assigns each entry an interval of the sorted values (Fisher 1958), so the best
// j intervals of the first i values follow from the best j - 1. The last interval's begin does not decrease with i,
// which halves the candidates at each division of the range: O(k n log n) time, 4 k n bytes. f64 with centred prefix
// sums: intervals that differ by less than about 1e-15 of the values' variance may be taken for equally good; the error
// is that of the intervals chosen, in two passes.
// Requires: values ascending, finite, not empty; as many weights, >= 0 and one of them > 0; k > 0; n < 2^32.
OptimalCodebook optimal_codebook(std::span<const double> values_ascending, std::span<const double> weights, unsigned k);

double least_squared_error(std::span<const double> values_ascending, std::span<const double> weights, unsigned k);

// The error of any codebook, each value taken to the nearest of its entries. Requires: entries ascending, not empty.
double squared_error_of(std::span<const double> entries, std::span<const double> values,
                        std::span<const double> weights);
