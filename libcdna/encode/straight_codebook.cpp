// Regression of cells on lines, in turn with the cells.
#include "libcdna/encode/straight_codebook.hpp"

#include <algorithm>
#include <limits>

#include "libcdna/format/float_bits.hpp"

namespace cdna {
namespace {

constexpr double kHalfMax = 65504;
constexpr int kStepsMax = 60;

// Sums for the least squares line through the entries of some cells: entry l at abscissa l.
struct Regression {
  double weight = 0;
  double l = 0;
  double ll = 0;
  double x = 0;
  double lx = 0;

  void add(double position, double cell_weight, double cell_moment) {
    weight += cell_weight;
    l += cell_weight * position;
    ll += cell_weight * position * position;
    x += cell_moment;
    lx += cell_moment * position;
  }
  // Of the line without bound. Requires: weight > 0.
  double step() const {
    const double spread = ll - l * l / weight;
    return spread > 0 ? (lx - l * x / weight) / spread : 0;
  }
  double base(double step) const { return (x - step * l) / weight; }
};

Regression regression_of(const Samples& samples, const Cells& cells, std::size_t first, std::size_t count) {
  Regression sums;
  for (std::size_t l = 0; l < count; ++l) {
    const std::size_t begin = cells.begin(first + l);
    const std::size_t end = cells.end(first + l);
    sums.add(static_cast<double>(l), samples.weight(begin, end), samples.moment(begin, end));
  }
  return sums;
}

double value_of(std::uint16_t half) { return static_cast<double>(f32_of_f16(half)); }

// The least binary16 number that is not below `value`, or the largest finite one.
std::uint16_t half_from(double value) {
  std::uint16_t half = rounded_half(value);
  while (value_of(half) < value && half != 0x7BFF)
    half = static_cast<std::uint16_t>((half & 0x8000U) != 0 ? half - 1 : half + 1);
  return half;
}

// A line of `count` entries fitted to cells, none of them below `least`.
void append_segment(const Regression& sums, double least, std::vector<std::uint16_t>& claim) {
  std::uint16_t step = 0;
  double base = least;
  if (sums.weight > 0) {
    step = rounded_half(std::max(0.0, sums.step()));
    base = sums.base(value_of(step));
  }
  const std::uint16_t rounded = rounded_half(base);
  claim.push_back(value_of(rounded) < least ? half_from(least) : rounded);
  claim.push_back(step);
}

std::vector<double> widened(std::span<const std::uint16_t> halves) {
  std::vector<double> values;
  for (const std::uint16_t half : halves) values.push_back(value_of(half));
  return values;
}

// Squared error of the samples with these entries, less the sum of their squares, which is the same for all.
double relative_error(const Samples& samples, std::span<const double> entries) {
  Cells cells(samples.size(), entries.size());
  cells.follow(samples, entries);
  double error = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const std::size_t begin = cells.begin(i);
    const std::size_t end = cells.end(i);
    error += entries[i] * (entries[i] * samples.weight(begin, end) - 2 * samples.moment(begin, end));
  }
  return error;
}

}  // namespace

std::uint16_t rounded_half(double value) { return f16_of_f64(std::clamp(value, -kHalfMax, kHalfMax)); }

std::vector<std::uint16_t> entries_of_segments(std::span<const std::uint16_t> claim, std::uint32_t bits) {
  const std::uint32_t each = (1U << bits) / kSegments;
  std::vector<std::uint16_t> entries;
  for (std::uint32_t h = 0; h < kSegments; ++h) {
    // The sum is exact in f64.
    for (std::uint32_t l = 0; l < each; ++l)
      entries.push_back(rounded_half(value_of(claim[2 * h]) + l * value_of(claim[2 * h + 1])));
  }
  return entries;
}

std::vector<std::uint16_t> entries_of_affine(std::span<const std::uint16_t> claim, std::uint32_t bits) {
  std::vector<std::uint16_t> entries;
  for (std::uint32_t i = 0; i < 1U << bits; ++i)
    entries.push_back(rounded_half(value_of(claim[0]) + i * value_of(claim[1])));
  return entries;
}

std::vector<std::uint16_t> fit_segments(const Samples& samples, std::span<const double> entries, std::uint32_t bits) {
  const std::size_t size = std::size_t{1} << bits;
  const std::size_t each = size / kSegments;
  std::vector<double> current(entries.begin(), entries.end());
  current.resize(size, current.back());
  Cells cells(samples.size(), size);
  std::vector<std::uint16_t> best;
  double least = std::numeric_limits<double>::infinity();
  for (int step = 0; step < kStepsMax && cells.follow(samples, current); ++step) {
    std::vector<std::uint16_t> claim;
    double floor = -kHalfMax;
    for (std::size_t h = 0; h < kSegments; ++h) {
      append_segment(regression_of(samples, cells, h * each, each), floor, claim);
      const double last = value_of(claim[2 * h]) + static_cast<double>(each - 1) * value_of(claim[2 * h + 1]);
      floor = value_of(rounded_half(last));
    }
    current = widened(entries_of_segments(claim, bits));
    const double error = relative_error(samples, current);
    if (!(error < least)) continue;  // Rounding makes the way down uneven.
    least = error;
    best = std::move(claim);
  }
  return best;
}

std::vector<std::uint16_t> fit_affine(const Samples& samples, std::uint32_t bits) {
  const std::size_t size = std::size_t{1} << bits;
  const double middle = (samples.front() + samples.back()) / 2;
  const double reach = (samples.back() - samples.front()) / 2;
  std::vector<std::uint16_t> best;
  double least = std::numeric_limits<double>::infinity();
  // Lines over a part of the range, from all of it down to a tenth: each is improved a little.
  for (double part = 1; part > 0.1; part *= 0.95) {
    const double step = 2 * reach * part / static_cast<double>(size);
    std::vector<std::uint16_t> claim{rounded_half(middle - reach * part + step / 2), rounded_half(step)};
    Cells cells(samples.size(), size);
    for (int turn = 0; turn < 8; ++turn) {
      const std::vector<double> current = widened(entries_of_affine(claim, bits));
      const double error = relative_error(samples, current);
      if (error < least) {
        least = error;
        best = claim;
      }
      if (!cells.follow(samples, current)) break;
      claim.clear();
      append_segment(regression_of(samples, cells, 0, size), -kHalfMax, claim);
    }
  }
  return best;
}

}  // namespace cdna
