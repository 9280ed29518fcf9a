// Bins of the two histograms, and running sums over them.
#include "libcdna/encode/samples.hpp"

#include <algorithm>
#include <bit>
#include <limits>

#include "kernels/cpu/codebook.h"

namespace cdna {
namespace {

constexpr std::uint32_t kMagnitudes = CDNA_HISTOGRAM_MAGNITUDES;
static_assert(MagnitudeHistogram::kBins == 2 * std::size_t{kMagnitudes});

// Smallest magnitude that falls into a bin. Requires: magnitude <= kMagnitudes.
float magnitude_floor(std::uint32_t magnitude) {
  return std::bit_cast<float>((magnitude + CDNA_HISTOGRAM_FIRST) << CDNA_HISTOGRAM_SHIFT);
}

double magnitude_center(std::uint32_t magnitude) {
  if (magnitude == 0) return 0;  // Holds zeros and all that is smaller than 2^-12.
  return (static_cast<double>(magnitude_floor(magnitude)) + static_cast<double>(magnitude_floor(magnitude + 1))) / 2;
}

}  // namespace

void Samples::append(double value, double weight) {
  values_.push_back(value);
  weight_before_.push_back(weight_before_.back() + weight);
  moment_before_.push_back(moment_before_.back() + weight * value);
}

std::size_t Samples::first_above(double bound, std::size_t from) const {
  // Doubling steps away from `from`, then halving.
  std::size_t low = from;   // All before it are not above.
  std::size_t high = from;  // It and all after it are above, or it is the end.
  for (std::size_t step = 1; low > 0 && values_[low - 1] > bound; step *= 2) {
    high = low;
    low = low > step ? low - step : 0;
  }
  for (std::size_t step = 1; high < size() && !(values_[high] > bound); step *= 2) {
    low = high + 1;
    high = std::min(high + step, size());
  }
  const auto begin = values_.begin();
  return static_cast<std::size_t>(
      std::upper_bound(begin + static_cast<std::ptrdiff_t>(low), begin + static_cast<std::ptrdiff_t>(high), bound) -
      begin);
}

bool Cells::follow(const Samples& samples, std::span<const double> entries) {
  bool changed = false;
  for (std::size_t i = 0; i + 1 < entries.size(); ++i) {
    const double middle = (entries[i] + entries[i + 1]) / 2;
    const std::size_t edge = std::max(edges_[i], samples.first_above(middle, std::max(edges_[i], edges_[i + 1])));
    changed = changed || edge != edges_[i + 1];
    edges_[i + 1] = edge;
  }
  return changed;
}

void MagnitudeHistogram::collect() {
  for (std::size_t i = 0; i < kBins; ++i) counts_[i] += recent_[i];
  std::fill(recent_.begin(), recent_.end(), 0);
}

void MagnitudeHistogram::add(const MagnitudeHistogram& other) {
  for (std::size_t i = 0; i < kBins; ++i) counts_[i] += other.counts_[i];
}

std::uint64_t MagnitudeHistogram::total() const {
  std::uint64_t sum = 0;
  for (const std::uint64_t count : counts_) sum += count;
  return sum;
}

float MagnitudeHistogram::bound_above(double fraction) const {
  const auto allowed = static_cast<std::uint64_t>(static_cast<double>(total()) * fraction);
  std::uint64_t above = 0;
  for (std::uint32_t magnitude = kMagnitudes; magnitude-- > 0;) {
    above += counts_[kMagnitudes - 1 - magnitude] + counts_[kMagnitudes + magnitude];
    if (above <= allowed) continue;
    if (magnitude + 1 == kMagnitudes) break;
    return magnitude_floor(magnitude + 1);
  }
  return above > 0 && above <= allowed ? 0 : std::numeric_limits<float>::infinity();
}

Samples MagnitudeHistogram::samples_below(float bound) const {
  Samples samples;
  const auto append = [&](std::uint32_t magnitude, double sign, std::uint64_t count) {
    const double center = magnitude_center(magnitude);
    if (count > 0 && center < static_cast<double>(bound)) samples.append(sign * center, static_cast<double>(count));
  };
  for (std::uint32_t magnitude = kMagnitudes; magnitude-- > 1;) {
    append(magnitude, -1, counts_[kMagnitudes - 1 - magnitude]);
  }
  append(0, 1, counts_[kMagnitudes - 1] + counts_[kMagnitudes]);
  for (std::uint32_t magnitude = 1; magnitude < kMagnitudes; ++magnitude) {
    append(magnitude, 1, counts_[kMagnitudes + magnitude]);
  }
  return samples;
}

void WeightHistogram::add(std::span<const float> values, double weight) {
  constexpr float kPerUnit = static_cast<float>(kBins) / (2 * kReach);
  for (const float value : values) {
    const float place = std::clamp((value + kReach) * kPerUnit, 0.0F, static_cast<float>(kBins - 1));
    weights_[static_cast<std::size_t>(place)] += weight;
  }
}

void WeightHistogram::add(const WeightHistogram& other) {
  for (std::size_t i = 0; i < kBins; ++i) weights_[i] += other.weights_[i];
}

Samples WeightHistogram::samples(double unseen) const {
  constexpr double kWidth = 2 * static_cast<double>(kReach) / static_cast<double>(kBins);
  double total = 0;
  for (const double weight : weights_) total += weight;
  const double everywhere = total > 0 ? total * unseen * kWidth / 2 : kWidth / 2;
  Samples samples;
  for (std::size_t i = 0; i < kBins; ++i) {
    const double value = (static_cast<double>(i) + 0.5) * kWidth - static_cast<double>(kReach);
    const double weight = weights_[i] + (value > -1 && value < 1 ? everywhere : 0);
    if (weight > 0) samples.append(value, weight);
  }
  return samples;
}

}  // namespace cdna
