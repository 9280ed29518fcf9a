// The start, Lloyd's steps, moves out of local optima, and codebooks bound to lines.
#include "libcdna/encode/codebook_fit.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "libcdna/encode/boundary_search.hpp"
#include "libcdna/encode/codebook_options.hpp"
#include "libcdna/encode/straight_codebook.hpp"
#include "libcdna/format/float_bits.hpp"

namespace cdna {
namespace {

constexpr int kLloydStepsMax = 400;  // The start is nearly a fixed point; far fewer are needed but for odd sources.
// Of boundaries' moves, in cells. Wide ones bring entries from where there are too many to where there are too few,
// narrow ones step over unevenness of the histogram.
constexpr double kReaches[] = {1, 1, 1, 1, 1, 0.25};
constexpr std::size_t kCoarseBinsMin = 64;
constexpr std::size_t kCoarseBinsMax = 4096;
constexpr std::size_t kBinsPerCoarseBin = 16;  // Fewer, and the cube root of a noisy weight starves the tails.

// Cube root by Newton's method from above; converged to the last bits long before 64 steps. Not std::cbrt: libms
// differ.
double cube_root(double value) {
  if (value <= 0) return 0;
  double root = 1;
  while (root * root * root < value) root *= 2;
  for (int step = 0; step < 64; ++step) {
    const double next = (2 * root + value / (root * root)) / 3;
    if (!(next < root)) break;
    root = next;
  }
  return root;
}

// Entries at equal steps of the integral of p^(1/3), p taken from equal-width bins coarse enough to be smooth.
std::vector<double> companded_start(const Samples& samples, std::size_t entries) {
  const double low = samples.front();
  const std::size_t bins = std::clamp(samples.size() / kBinsPerCoarseBin, kCoarseBinsMin, kCoarseBinsMax);
  const double width = (samples.back() - low) / static_cast<double>(bins);
  // Weights are scaled so that the cube root sees numbers near 1, whatever their unit.
  const double unit = static_cast<double>(bins) / samples.weight(0, samples.size());
  std::vector<double> density_before(bins + 1);
  std::size_t begin = 0;
  for (std::size_t i = 0; i < bins; ++i) {
    const double edge = low + static_cast<double>(i + 1) * width;
    const std::size_t end = i + 1 == bins ? samples.size() : std::max(begin, samples.first_above(edge, begin));
    density_before[i + 1] = density_before[i] + cube_root(samples.weight(begin, end) * unit);
    begin = end;
  }
  std::vector<double> start(entries);
  std::size_t bin = 0;
  for (std::size_t i = 0; i < entries; ++i) {
    const double target = (static_cast<double>(i) + 0.5) / static_cast<double>(entries) * density_before[bins];
    while (bin + 1 < bins && density_before[bin + 1] <= target) ++bin;
    const double mass = density_before[bin + 1] - density_before[bin];
    const double within = mass > 0 ? (target - density_before[bin]) / mass : 0.5;
    start[i] = low + (static_cast<double>(bin) + within) * width;
  }
  return start;
}

// Alternates cells and centroids until no cell changes.
void converge(const Samples& samples, std::vector<double>& entries) {
  Cells cells(samples.size(), entries.size());
  for (int step = 0; step < kLloydStepsMax && cells.follow(samples, entries); ++step) {
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (samples.weight(cells.begin(i), cells.end(i)) > 0)
        entries[i] = centroid_of(samples, cells.begin(i), cells.end(i));
    }
  }
}

std::vector<double> fit_free(const Samples& samples, std::size_t wanted) {
  // Each value is an entry where there are not more of them.
  if (samples.size() <= wanted) return {samples.values().begin(), samples.values().end()};
  std::vector<double> entries = companded_start(samples, wanted);
  converge(samples, entries);
  for (const double reach : kReaches) {
    move_boundaries(samples, reach, entries);
    converge(samples, entries);
  }
  return entries;
}

std::vector<std::uint16_t> halves_of(std::span<const double> entries) {
  std::vector<std::uint16_t> halves;
  for (const double entry : entries) {
    const std::uint16_t half = rounded_half(entry);
    if (halves.empty() || f32_of_f16(halves.back()) < f32_of_f16(half)) halves.push_back(half);
  }
  return halves;
}

}  // namespace

FittedCodebook fit_codebook(const Samples& samples, const CodebookOptions& options) {
  const std::uint32_t bits = code_bits(options);
  if (samples.size() == 0) {
    const std::uint16_t zero[1] = {0};
    std::vector<std::uint16_t> claim;
    if (options.codebook_class == CodebookClass::pwl16) claim.assign(2 * kSegments, 0);
    if (options.codebook_class == CodebookClass::affine) claim.assign(2, 0);
    return {Codebook(zero, bits), claim};
  }
  const std::vector<double> entries = fit_free(samples, options.entries);
  switch (options.codebook_class) {
    case CodebookClass::pwl16: {
      std::vector<std::uint16_t> claim = fit_segments(samples, entries, bits);
      return {Codebook(entries_of_segments(claim, bits), bits), std::move(claim)};
    }
    case CodebookClass::affine: {
      std::vector<std::uint16_t> claim = fit_affine(samples, bits);
      return {Codebook(entries_of_affine(claim, bits), bits), std::move(claim)};
    }
    default:
      return {Codebook(halves_of(entries), bits), {}};
  }
}

}  // namespace cdna
