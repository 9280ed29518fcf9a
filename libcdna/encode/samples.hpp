// What a codebook is fitted to: weighted values in ascending order, with running sums.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace cdna {

// Bins with their weights, as sums up to each bin: any range of them has its weight and centroid at once.
class Samples {
 public:
  // Appends a bin. Requires: value above all before, weight > 0.
  void append(double value, double weight);

  std::size_t size() const { return values_.size(); }
  double value(std::size_t i) const { return values_[i]; }
  double front() const { return values_.front(); }
  double back() const { return values_.back(); }
  std::span<const double> values() const { return values_; }

  // Of bins [begin, end).
  double weight(std::size_t begin, std::size_t end) const { return weight_before_[end] - weight_before_[begin]; }
  double moment(std::size_t begin, std::size_t end) const { return moment_before_[end] - moment_before_[begin]; }

  // The first bin above `bound`, sought from bin `from` on in either direction: cheap where it is near.
  std::size_t first_above(double bound, std::size_t from) const;

 private:
  std::vector<double> values_;
  std::vector<double> weight_before_{0};
  std::vector<double> moment_before_{0};  // Of weight * value.
};

// Which samples are nearest to which entry.
class Cells {
 public:
  Cells(std::size_t samples, std::size_t entries) : edges_(entries + 1, 0) { edges_.back() = samples; }
  // Moves the edges to the midpoints of ascending entries. Returns whether one changed.
  bool follow(const Samples& samples, std::span<const double> entries);
  std::size_t begin(std::size_t entry) const { return edges_[entry]; }
  std::size_t end(std::size_t entry) const { return edges_[entry + 1]; }

 private:
  std::vector<std::size_t> edges_;
};

// Counts of values by sign, exponent and 11 bits of the fraction (relative width 2^-11), from 2^-12 to 2^12: what is
// scaled to rms 1. Counts are integers: the order of adding does not matter.
class MagnitudeHistogram {
 public:
  static constexpr std::size_t kBins = std::size_t{2} * 24 * 2048;

  MagnitudeHistogram() : counts_(kBins) {}
  // To be filled by the kernel: count_magnitudes. Requires: fewer than 2^32 values between two calls of collect().
  std::uint32_t* recent() { return recent_.data(); }
  // Adds the recent counts to the others.
  void collect();
  void add(const MagnitudeHistogram& other);

  std::uint64_t total() const;
  // The least magnitude from which on at most `fraction` of the values lie, at a bin's edge; +Inf if that is none.
  float bound_above(double fraction) const;
  // The bins whose magnitudes are below `bound`.
  Samples samples_below(float bound) const;

 private:
  std::vector<std::uint64_t> counts_;
  std::vector<std::uint32_t> recent_ = std::vector<std::uint32_t>(kBins);
};

// Weights of values in -kReach .. kReach, in 2^16 bins of equal width: what is scaled to groups' largest magnitudes.
class WeightHistogram {
 public:
  WeightHistogram() : weights_(kBins) {}
  // Values beyond the reach go to the outermost bins.
  void add(std::span<const float> values, double weight);
  void add(const WeightHistogram& other);
  // With `unseen` of all weight (1 without any) spread evenly over -1 .. 1.
  Samples samples(double unseen) const;

 private:
  static constexpr std::size_t kBins = std::size_t{1} << 16;
  static constexpr float kReach = 1.25F;
  std::vector<double> weights_;
};

}  // namespace cdna
