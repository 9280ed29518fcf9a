// Histogram, threshold, and the fit.
#include "libcdna/encode/codebook_fit.hpp"

#include <algorithm>
#include <bit>
#include <limits>

#include "libcdna/format/float_bits.hpp"

namespace cdna {
namespace {

constexpr std::uint32_t kMantissaShift = 11;          // 23 - 12: what a bin drops of the f32 mantissa.
constexpr std::uint32_t kExponentFloor = 127U - 16U;  // Of 2^-16.
constexpr std::uint32_t kKeyFloor = kExponentFloor << 12;
constexpr int kLloydSteps =
    10;  // The p^(1/3) start is nearly a fixed point: more steps change under 0.01 dB (formats A.3).
constexpr double kHalfMax = 65504;
constexpr std::size_t kCoarseBinsMin = 64;
constexpr std::size_t kCoarseBinsMax = 4096;
constexpr std::uint64_t kSamplesPerCoarseBin = 16;  // Fewer, and the cube root of a noisy count starves the tails.

// Cube root of a count by Newton's method from above; converged to the last bits long before 64 steps. Not std::cbrt:
// libms differ.
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

// The occupied bins below the threshold, ascending, with running sums for centroids of ranges.
struct Samples {
  std::vector<double> center;
  std::vector<double> count_before;  // [size + 1]
  std::vector<double> sum_before;    // [size + 1], of count * center.

  std::size_t size() const { return center.size(); }
  double total() const { return count_before.back(); }
  // First bin whose center is above `bound`.
  std::size_t above(double bound) const {
    return static_cast<std::size_t>(std::upper_bound(center.begin(), center.end(), bound) - center.begin());
  }
};

Samples samples_below(const Histogram& histogram, float threshold) {
  Samples samples;
  samples.count_before.push_back(0);
  samples.sum_before.push_back(0);
  for (std::uint32_t bin = 0; bin < 2 * Histogram::kMagnitudes; ++bin) {
    const auto count = static_cast<double>(histogram.count(bin));
    const double center = Histogram::center_of(bin);
    if (count == 0 || center >= static_cast<double>(threshold) || -center >= static_cast<double>(threshold)) continue;
    samples.center.push_back(center);
    samples.count_before.push_back(samples.count_before.back() + count);
    samples.sum_before.push_back(samples.sum_before.back() + count * center);
  }
  return samples;
}

// Entries at equal steps of the integral of p^(1/3), p taken from equal-width bins coarse enough to be smooth.
std::vector<double> companded_start(const Samples& samples, std::size_t entries) {
  const double low = samples.center.front();
  const double high = samples.center.back();
  const auto wanted = static_cast<std::size_t>(samples.total()) / kSamplesPerCoarseBin;
  const std::size_t bins = std::clamp(wanted, kCoarseBinsMin, kCoarseBinsMax);
  const double width = (high - low) / static_cast<double>(bins);
  std::vector<double> density_before(bins + 1);
  for (std::size_t i = 0; i < bins; ++i) {
    const std::size_t begin = i == 0 ? 0 : samples.above(low + static_cast<double>(i) * width);
    const std::size_t end = i + 1 == bins ? samples.size() : samples.above(low + static_cast<double>(i + 1) * width);
    const double count = samples.count_before[std::max(begin, end)] - samples.count_before[begin];
    density_before[i + 1] = density_before[i] + cube_root(count);
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

// Moves each entry to the centroid of the samples nearest to it. Returns whether anything moved.
bool lloyd_step(const Samples& samples, std::vector<double>& entries) {
  bool moved = false;
  std::size_t begin = 0;
  std::vector<double> next = entries;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const std::size_t end = i + 1 == entries.size() ? samples.size() : samples.above((entries[i] + entries[i + 1]) / 2);
    const double count = samples.count_before[end] - samples.count_before[begin];
    if (count > 0) next[i] = (samples.sum_before[end] - samples.sum_before[begin]) / count;
    moved = moved || next[i] != entries[i];
    begin = end;
  }
  entries = std::move(next);
  return moved;
}

}  // namespace

void Histogram::add(const Histogram& other) {
  for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
}

std::uint64_t Histogram::total() const {
  std::uint64_t sum = 0;
  for (const std::uint64_t count : counts_) sum += count;
  return sum;
}

std::uint32_t Histogram::bin_of(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t key = (bits & 0x7FFFFFFFU) >> kMantissaShift;
  const std::uint32_t magnitude = key < kKeyFloor ? 0 : std::min(key - kKeyFloor, kMagnitudes - 1);
  return (bits >> 31) != 0 ? kMagnitudes - 1 - magnitude : kMagnitudes + magnitude;
}

float Histogram::magnitude_floor(std::uint32_t magnitude) {
  return std::bit_cast<float>((magnitude + kKeyFloor) << kMantissaShift);
}

double Histogram::center_of(std::uint32_t bin) {
  const bool negative = bin < kMagnitudes;
  const std::uint32_t magnitude = negative ? kMagnitudes - 1 - bin : bin - kMagnitudes;
  if (magnitude == 0) return 0;  // Holds zeros and all that is smaller than 2^-16.
  const auto low = static_cast<double>(magnitude_floor(magnitude));
  const auto high = static_cast<double>(std::bit_cast<float>((magnitude + kKeyFloor + 1) << kMantissaShift));
  const double center = (low + high) / 2;
  return negative ? -center : center;
}

float outlier_threshold(const Histogram& histogram, double fraction) {
  const auto allowed = static_cast<std::uint64_t>(static_cast<double>(histogram.total()) * fraction);
  std::uint64_t above = 0;
  for (std::uint32_t magnitude = Histogram::kMagnitudes; magnitude-- > 0;) {
    above +=
        histogram.count(Histogram::kMagnitudes - 1 - magnitude) + histogram.count(Histogram::kMagnitudes + magnitude);
    if (above <= allowed) continue;
    if (magnitude + 1 == Histogram::kMagnitudes) break;
    return Histogram::magnitude_floor(magnitude + 1);
  }
  return above > 0 && above <= allowed ? 0 : std::numeric_limits<float>::infinity();
}

Codebook fit_codebook(const Histogram& histogram, float threshold) {
  const Samples samples = samples_below(histogram, threshold);
  std::vector<double> entries(Codebook::kSize, 0.0);
  if (samples.size() > 0) {
    entries = companded_start(samples, Codebook::kSize);
    for (int step = 0; step < kLloydSteps && lloyd_step(samples, entries); ++step) {
    }
  }
  Codebook codebook;
  for (std::size_t i = 0; i < Codebook::kSize; ++i) {
    codebook.half[i] = f16_of_f32(static_cast<float>(std::clamp(entries[i], -kHalfMax, kHalfMax)));
    codebook.value[i] = f32_of_f16(codebook.half[i]);
  }
  codebook.prepare();
  return codebook;
}

void Codebook::prepare() {
  for (std::size_t i = 0; i + 1 < kSize; ++i)
    midpoint_[i] = (value[i] + value[i + 1]) / 2;  // Rounded to f32 where exponents differ by far.
  cells_begin_ = value.front();
  const float width = value.back() - value.front();
  cells_per_unit_ = width > 0 ? static_cast<float>(kCells) / width : 0;
  std::size_t code = 0;
  for (std::size_t cell = 0; cell <= kCells; ++cell) {
    const float edge = cells_begin_ + static_cast<float>(cell) * width / static_cast<float>(kCells);
    while (code + 1 < kSize && edge > midpoint_[code]) ++code;
    // One less: rounding may put a value just below an edge into the cell above it.
    first_code_[cell] = static_cast<std::uint8_t>(code > 0 ? code - 1 : 0);
  }
}

std::uint8_t Codebook::nearest(float wanted) const {
  const float position = (wanted - cells_begin_) * cells_per_unit_;
  const auto cell = static_cast<std::size_t>(std::clamp(position, 0.0F, static_cast<float>(kCells)));
  std::size_t code = first_code_[cell];
  while (code > 0 && wanted <= midpoint_[code - 1])
    --code;  // Entries can be denser than f32 is at the far end of the range.
  while (code + 1 < kSize && wanted > midpoint_[code]) ++code;
  return static_cast<std::uint8_t>(code);
}

}  // namespace cdna
