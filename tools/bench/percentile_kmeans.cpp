// Percentiles, Lloyd rounds, and a capped sidecar.
#include "tools/bench/percentile_kmeans.hpp"

#include <algorithm>
#include <cmath>

namespace cdna::tools::bench {
namespace {

constexpr std::size_t kEntries = 256;
constexpr int kRounds = 10;
constexpr double kStopShare = 0.001;  // Of the range of the first entries.
constexpr std::uint64_t kFittedMax = 500'000;
constexpr std::uint64_t kDrawSeed = 42;
constexpr double kOutlierPercentile = 99.9;
constexpr std::size_t kOutliersMax = 512;
constexpr double kOutlierBits = 64 + 16;  // An i64 position and an f16 value.
constexpr double kEntryBits = 32;

// `count` of the values without replacement, each subset as likely (Knuth, The Art of Computer Programming 2, 3.4.2,
// algorithm S).
std::vector<float> draw(std::span<const float> values, std::uint64_t count) {
  if (count >= values.size()) return {values.begin(), values.end()};
  std::vector<float> drawn;
  drawn.reserve(count);
  std::uint64_t state = kDrawSeed;
  for (std::uint64_t i = 0; drawn.size() < count; ++i) {
    state = state * 6364136223846793005 + 1442695040888963407;
    const double unit = static_cast<double>(state >> 11) * 0x1p-53;
    if (static_cast<double>(values.size() - i) * unit < static_cast<double>(count - drawn.size()))
      drawn.push_back(values[i]);
  }
  return drawn;
}

std::size_t distinct_count(std::span<const float> ascending) {
  std::size_t count = 1;
  for (std::size_t i = 1; i < ascending.size(); ++i)
    if (ascending[i] != ascending[i - 1]) ++count;
  return count;
}

// Entries that values can be nearest to: of equal ones the original assigns all values to the first.
std::vector<float> distinct(std::vector<float> entries) {
  std::sort(entries.begin(), entries.end());
  entries.erase(std::unique(entries.begin(), entries.end()), entries.end());
  return entries;
}

// The largest value that is nearest to entry i, or as near to it as to the next: a tie goes to the lower.
double upper_bound_of(std::span<const float> entries, std::size_t i) {
  return (static_cast<double>(entries[i]) + static_cast<double>(entries[i + 1])) / 2;
}

float nearest_of(std::span<const float> entries, float value) {
  const auto* const above = std::lower_bound(entries.data(), entries.data() + entries.size(), value);
  if (above == entries.data()) return entries.front();
  if (above == entries.data() + entries.size()) return entries.back();
  const auto i = static_cast<std::size_t>(above - entries.data()) - 1;
  return static_cast<double>(value) <= upper_bound_of(entries, i) ? entries[i] : entries[i + 1];
}

// Sums of the first 0, 1, … values.
std::vector<double> prefix_sums(std::span<const float> values) {
  std::vector<double> sums(values.size() + 1);
  for (std::size_t i = 0; i < values.size(); ++i) sums[i + 1] = sums[i] + static_cast<double>(values[i]);
  return sums;
}

// Each entry of `active` (distinct, ascending) with the mean of the values nearest to it; without any, with itself.
std::vector<float> means_of(std::span<const float> values, const std::vector<double>& sums,
                            std::span<const float> active) {
  std::vector<float> means(active.begin(), active.end());
  std::size_t begin = 0;
  for (std::size_t i = 0; i < active.size(); ++i) {
    std::size_t end = values.size();
    if (i + 1 < active.size()) {
      const double bound = upper_bound_of(active, i);
      const auto after = std::partition_point(values.begin() + static_cast<std::ptrdiff_t>(begin), values.end(),
                                              [bound](float value) { return static_cast<double>(value) <= bound; });
      end = static_cast<std::size_t>(after - values.begin());
    }
    if (end > begin) means[i] = static_cast<float>((sums[end] - sums[begin]) / static_cast<double>(end - begin));
    begin = end;
  }
  return means;
}

// One Lloyd round: of equal entries only the first moves.
std::vector<float> moved(std::span<const float> values, const std::vector<double>& sums,
                         const std::vector<float>& entries) {
  const std::vector<float> active = distinct(entries);
  const std::vector<float> means = means_of(values, sums, active);
  std::vector<float> next = entries;
  for (std::size_t i = 0; i < active.size(); ++i) {
    const auto first = std::find(entries.begin(), entries.end(), active[i]);
    next[static_cast<std::size_t>(first - entries.begin())] = means[i];
  }
  return next;
}

double largest_move(const std::vector<float>& from, const std::vector<float>& to) {
  double largest = 0;
  for (std::size_t i = 0; i < from.size(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(to[i]) - static_cast<double>(from[i])));
  return largest;
}

// The positions of the outliers, at most kOutliersMax.
std::vector<std::size_t> outliers_of(std::span<const float> values, double low, double high) {
  std::vector<std::size_t> positions;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto value = static_cast<double>(values[i]);
    if (value < low || value > high) positions.push_back(i);
  }
  if (positions.size() <= kOutliersMax) return positions;
  const auto larger = [values](std::size_t a, std::size_t b) { return std::abs(values[a]) > std::abs(values[b]); };
  std::nth_element(positions.begin(), positions.begin() + kOutliersMax, positions.end(), larger);
  positions.resize(kOutliersMax);
  return positions;
}

// Between which two of the ascending values a percentile lies.
struct Place {
  std::size_t below;
  double part;  // Of the way to the next.
};

Place place_of(std::size_t count, double percent) {
  const double place = percent / 100 * static_cast<double>(count - 1);
  const auto below = std::min(static_cast<std::size_t>(place), count - 1);
  return {below, place - static_cast<double>(below)};
}

double between(float below, float above, double part) {
  return static_cast<double>(below) + part * (static_cast<double>(above) - static_cast<double>(below));
}

// percentile_of() of values in any order, which change places.
double reordering_percentile_of(std::vector<float>& values, double percent) {
  const Place place = place_of(values.size(), percent);
  const auto below = values.begin() + static_cast<std::ptrdiff_t>(place.below);
  std::nth_element(values.begin(), below, values.end());
  const float above = below + 1 == values.end() ? *below : *std::min_element(below + 1, values.end());
  return between(*below, above, place.part);
}

}  // namespace

double percentile_of(std::span<const float> values, double percent) {
  const Place place = place_of(values.size(), percent);
  return between(values[place.below], values[std::min(place.below + 1, values.size() - 1)], place.part);
}

std::vector<float> fit_percentile_kmeans(std::span<const float> values, std::size_t entries) {
  std::vector<float> fit(std::min(entries, distinct_count(values)));
  const auto last = static_cast<double>(std::max<std::size_t>(fit.size(), 2) - 1);
  for (std::size_t i = 0; i < fit.size(); ++i)
    fit[i] = static_cast<float>(percentile_of(values, 100 * static_cast<double>(i) / last));
  const double range = static_cast<double>(fit.back()) - static_cast<double>(fit.front());
  const double stop = kStopShare * (range < 1e-30 ? 1 : range);
  const std::vector<double> sums = prefix_sums(values);
  for (int round = 0; round < kRounds; ++round) {
    std::vector<float> next = moved(values, sums, fit);
    if (largest_move(fit, next) < stop) break;
    fit = std::move(next);
  }
  std::sort(fit.begin(), fit.end());
  return fit;
}

Quantised quantise_by_percentile_kmeans(std::span<const float> values, std::uint64_t) {
  std::vector<float> drawn = draw(values, kFittedMax);
  std::sort(drawn.begin(), drawn.end());
  const std::vector<float> fit = fit_percentile_kmeans(drawn, kEntries);
  const std::vector<float> entries = distinct(fit);
  Quantised out;
  out.values.reserve(values.size());
  for (const float value : values) out.values.push_back(nearest_of(entries, value));

  std::vector<float> scratch(values.begin(), values.end());
  const double low = reordering_percentile_of(scratch, 100 - kOutlierPercentile);
  const double high = reordering_percentile_of(scratch, kOutlierPercentile);
  const std::vector<std::size_t> outliers = outliers_of(values, low, high);
  for (const std::size_t position : outliers) out.values[position] = round_to_half(values[position]);
  const double extra =
      kEntryBits * static_cast<double>(fit.size()) + kOutlierBits * static_cast<double>(outliers.size());
  out.bits_per_weight = 8 + extra / static_cast<double>(values.size());
  return out;
}

}  // namespace cdna::tools::bench
