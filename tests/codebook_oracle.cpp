// Divide and conquer over monotone argmins, a layer for each entry.
#include "codebook_oracle.hpp"

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace {

// Distinct values with weights above 0.
struct Bins {
  std::vector<double> values;
  std::vector<double> weights;
};

Bins occupied(std::span<const double> values, std::span<const double> weights) {
  assert(values.size() == weights.size() && std::is_sorted(values.begin(), values.end()));
  Bins bins;
  for (std::size_t i = 0; i < values.size(); ++i) {
    assert(weights[i] >= 0);
    if (weights[i] == 0) continue;
    if (!bins.values.empty() && bins.values.back() == values[i]) {
      bins.weights.back() += weights[i];
    } else {
      bins.values.push_back(values[i]);
      bins.weights.push_back(weights[i]);
    }
  }
  assert(!bins.values.empty());
  return bins;
}

// Costs of intervals, by prefix sums around the mean.
class IntervalCosts {
 public:
  explicit IntervalCosts(const Bins& bins) : sums_(bins.values.size() + 1) {
    long double total = 0;
    long double moment = 0;
    for (std::size_t i = 0; i < bins.values.size(); ++i) {
      total += bins.weights[i];
      moment += static_cast<long double>(bins.weights[i]) * bins.values[i];
    }
    const long double mean = moment / total;
    long double weight = 0;
    long double first = 0;
    long double second = 0;
    for (std::size_t i = 0; i < bins.values.size(); ++i) {
      const long double centred = bins.values[i] - mean;
      weight += bins.weights[i];
      first += bins.weights[i] * centred;
      second += bins.weights[i] * centred * centred;
      sums_[i + 1] = {static_cast<double>(weight), static_cast<double>(first), static_cast<double>(second)};
    }
  }

  // The least squared error of one entry for [begin, end). Requires: begin < end.
  double operator()(std::size_t begin, std::size_t end) const {
    const Sums& a = sums_[begin];
    const Sums& b = sums_[end];
    const double first = b.first - a.first;
    return std::max(0.0, b.second - a.second - first * first / (b.weight - a.weight));
  }

 private:
  struct Sums {
    double weight = 0;
    double first = 0;   // Of weight * value.
    double second = 0;  // Of weight * value^2.
  };
  std::vector<Sums> sums_;
};

// begins[j][i]: where the last of j + 2 intervals of the first i values begins.
using Begins = std::vector<std::vector<std::uint32_t>>;

// Fills current[i], the cost of `intervals` intervals of the first i values, for i in [first, last], whose last
// interval begins in [least, most].
struct Layer {
  const IntervalCosts& cost;
  const std::vector<double>& previous;
  std::size_t intervals;
  std::vector<double>& current;
  std::vector<std::uint32_t>& begins;

  void fill(std::size_t first, std::size_t last, std::size_t least, std::size_t most) const {
    const std::size_t middle = first + (last - first) / 2;
    double best = std::numeric_limits<double>::infinity();
    std::size_t best_begin = least;
    // Each interval before has at least one value.
    for (std::size_t begin = std::max(least, intervals - 1); begin <= std::min(most, middle - 1); ++begin) {
      const double candidate = previous[begin] + cost(begin, middle);
      if (candidate < best) {
        best = candidate;
        best_begin = begin;
      }
    }
    current[middle] = best;
    begins[middle] = static_cast<std::uint32_t>(best_begin);
    if (first < middle) fill(first, middle - 1, least, best_begin);
    if (middle < last) fill(middle + 1, last, best_begin, most);
  }
};

Begins best_begins(const IntervalCosts& cost, std::size_t count, std::size_t k) {
  constexpr double kNone = std::numeric_limits<double>::infinity();
  std::vector<double> previous(count + 1, kNone);
  for (std::size_t i = 1; i <= count; ++i) previous[i] = cost(0, i);
  Begins begins;
  for (std::size_t intervals = 2; intervals <= k; ++intervals) {
    std::vector<double> current(count + 1, kNone);
    begins.emplace_back(count + 1);
    Layer{cost, previous, intervals, current, begins.back()}.fill(intervals, count, 0, count - 1);
    previous = std::move(current);
  }
  return begins;
}

double mean_of(const Bins& bins, std::size_t begin, std::size_t end) {
  long double weight = 0;
  long double moment = 0;
  for (std::size_t i = begin; i < end; ++i) {
    weight += bins.weights[i];
    moment += static_cast<long double>(bins.weights[i]) * bins.values[i];
  }
  return static_cast<double>(moment / weight);
}

}  // namespace

OptimalCodebook optimal_codebook(std::span<const double> values_ascending, std::span<const double> weights,
                                 unsigned k) {
  const Bins bins = occupied(values_ascending, weights);
  const std::size_t count = bins.values.size();
  const std::size_t entries = std::min<std::size_t>(k, count);
  const Begins begins = best_begins(IntervalCosts(bins), count, entries);
  OptimalCodebook codebook;
  codebook.entries.resize(entries);
  std::size_t end = count;
  for (std::size_t i = entries; i-- > 0;) {
    const std::size_t begin = i == 0 ? 0 : begins[i - 1][end];
    codebook.entries[i] = mean_of(bins, begin, end);
    end = begin;
  }
  codebook.squared_error = squared_error_of(codebook.entries, bins.values, bins.weights);
  return codebook;
}

double least_squared_error(std::span<const double> values_ascending, std::span<const double> weights, unsigned k) {
  return optimal_codebook(values_ascending, weights, k).squared_error;
}

double squared_error_of(std::span<const double> entries, std::span<const double> values,
                        std::span<const double> weights) {
  assert(!entries.empty() && std::is_sorted(entries.begin(), entries.end()));
  long double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double* const above = std::lower_bound(entries.data(), entries.data() + entries.size(), values[i]);
    double distance = std::numeric_limits<double>::infinity();
    if (above != entries.data() + entries.size()) distance = *above - values[i];
    if (above != entries.data()) distance = std::min(distance, values[i] - *(above - 1));
    sum += static_cast<long double>(weights[i]) * distance * distance;
  }
  return static_cast<double>(sum);
}
