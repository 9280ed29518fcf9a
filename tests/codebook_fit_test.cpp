// The fit of codebooks against the best possible ones (codebook_oracle.hpp), on histograms as the encoder makes them.
#include "libcdna/encode/codebook_fit.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "case_stride.hpp"
#include "cdna/encode.hpp"
#include "codebook_file.hpp"
#include "codebook_kernels.hpp"
#include "codebook_oracle.hpp"
#include "libcdna/encode/samples.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kSeed = 1960;
constexpr double kWithinDb = 0.02;
constexpr std::uint32_t kEntries[] = {16, 32, 64, 256};

using Source = std::function<double(Noise&)>;

struct NamedSource {
  std::string name;
  Source next;
};

const std::vector<NamedSource>& sources() {
  static const std::vector<NamedSource> all{
      {"gaussian", [](Noise& noise) { return noise.gaussian(); }},
      {"t6", [](Noise& noise) { return noise.student(6); }},
      {"t6, 0.1 % x8", [](Noise& noise) { return noise.student(6) * (noise.below(1000) == 0 ? 8 : 1); }},
      {"t3", [](Noise& noise) { return noise.student(3); }},
      {"uniform", [](Noise& noise) { return 2 * noise.unit() - 1; }},
      {"bimodal", [](Noise& noise) { return noise.gaussian() * 0.3 + (noise.below(2) == 0 ? 1 : -1); }},
      {"ternary", [](Noise& noise) { return noise.gaussian() * 0.05 + static_cast<double>(noise.below(3)) - 1; }},
      {"laplace", [](Noise& noise) { return std::log(noise.unit()) * (noise.below(2) == 0 ? 1 : -1); }},
      {"one-sided", [](Noise& noise) { return 1 + std::abs(noise.gaussian()); }},
      {"mostly near 0", [](Noise& noise) { return noise.gaussian() * (noise.below(20) == 0 ? 1 : 0.01); }},
      {"three scales",
       [](Noise& noise) { return noise.gaussian() * std::ldexp(1.0, -4 * static_cast<int>(noise.below(3))); }},
      {"uneven modes",
       [](Noise& noise) { return noise.below(50) == 0 ? 3 + noise.gaussian() * 0.2 : noise.gaussian() * 0.1; }},
  };
  return all;
}

std::vector<double> weights_of(const Samples& samples) {
  std::vector<double> weights;
  for (std::size_t i = 0; i < samples.size(); ++i) weights.push_back(samples.weight(i, i + 1));
  return weights;
}

// As a tensor's rows are counted: scaled to rms 1, the largest 0.1 % left out.
Samples counted_by_rows(const Source& next) {
  constexpr std::size_t kCount = std::size_t{1} << 20;
  Noise noise(kSeed);
  std::vector<double> values(kCount);
  double squares = 0;
  for (double& value : values) {
    value = next(noise);
    squares += value * value;
  }
  const double rms = std::sqrt(squares / static_cast<double>(kCount));
  std::vector<float> scaled;
  for (const double value : values) scaled.push_back(static_cast<float>(value / rms));
  MagnitudeHistogram histogram;
  cdna_codebook_kernels_baseline()->count_magnitudes(scaled.data(), scaled.size(), histogram.recent());
  histogram.collect();
  return histogram.samples_below(histogram.bound_above(0.001));
}

// The values that a tensor's codebook was to stand for in the end, each in units of its group's scale and with the
// weight of its error.
Samples scaled_by_encoder(const Source& next, const CodebookOptions& options) {
  constexpr std::uint64_t kRows = 512;
  constexpr std::uint64_t kCols = 1024;
  Noise noise(kSeed);
  std::vector<float> values;
  for (std::uint64_t row = 0; row < kRows; ++row) {
    const double size = std::exp(0.3 * noise.gaussian());
    for (std::uint64_t i = 0; i < kCols; ++i) values.push_back(static_cast<float>(size * next(noise)));
  }
  const EncodedMatrix matrix = must(encode(DType::f32, kRows, kCols, std::as_bytes(std::span(values)), options));
  WeightHistogram histogram;
  std::vector<float> unit(options.group);
  for (std::uint64_t first = 0; first < values.size(); first += options.group) {
    const float row_scale = matrix.row_scales[first / kCols];
    const float scale = matrix.scale_table[matrix.group_scales[first / options.group]];
    if (scale == 0) continue;
    for (std::uint32_t i = 0; i < options.group; ++i) unit[i] = values[first + i] / row_scale * (1 / scale);
    const double weight = static_cast<double>(scale) * static_cast<double>(row_scale);
    histogram.add(unit, weight * weight);
  }
  return histogram.samples(0);
}

std::vector<double> fitted_entries(const Samples& samples, const CodebookOptions& options) {
  const FittedCodebook fitted = fit_codebook(samples, options);
  const auto values = fitted.codebook.values();
  return {values.begin(), values.end()};
}

// Checks a fit with k entries and prints by how much the optimum is better.
void check_fit(const std::string& name, const Samples& samples, std::uint32_t k) {
  const std::vector<double> weights = weights_of(samples);
  const OptimalCodebook best = optimal_codebook(samples.values(), weights, k);
  const CodebookOptions options{.entries = k, .outlier_fraction = 0};
  const double error = squared_error_of(fitted_entries(samples, options), samples.values(), weights);
  std::vector<double> rounded = best.entries;
  for (double& entry : rounded) entry = value_of_f16(f16_of(entry));
  const double rounded_error = squared_error_of(rounded, samples.values(), weights);
  // Of 256 entries in narrow peaks some differ by few units of binary16: there the best codebook has to be rounded too.
  const double bound = std::max(best.squared_error, rounded_error);
  const double distance_db = 10 * std::log10(error / bound);
  std::printf("%-28s k %3u, %5zu bins: %+.4f dB; the best, rounded, to itself: %+.4f dB\n", name.c_str(), k,
              samples.size(), 10 * std::log10(error / best.squared_error),
              10 * std::log10(rounded_error / best.squared_error));
  INFO(name << ", " << k << " entries, seed " << kSeed);
  CHECK(best.squared_error > 0);
  CHECK(distance_db <= kWithinDb);
}

}  // namespace

TEST_CASE("codebook fit: counted by rows, within 0.02 dB of the best codebook") {
  CaseStride stride;
  for (const NamedSource& source : sources()) {
    if (!stride.takes_next()) continue;
    const Samples samples = counted_by_rows(source.next);
    for (const std::uint32_t k : kEntries) check_fit(source.name, samples, k);
  }
}

TEST_CASE("codebook fit: scaled by groups, within 0.02 dB of the best codebook") {
  CaseStride stride;
  for (const NamedSource& source : sources()) {
    for (const char* const preset : {"cb4g32", "cb5g32", "cb6g64", "cb8g64"}) {
      if (!stride.takes_next()) continue;
      const CodebookOptions options = must(parse_preset(preset)).codebook;
      check_fit(source.name + " " + preset, scaled_by_encoder(source.next, options), options.entries);
    }
  }
}

TEST_CASE("codebook fit: weights of very different size leave entries in their cells, and the error as low") {
  // As of rows that are smaller than others by 2^-100: sums up to their bins hold nothing of them but rounding.
  INFO("seed " << kSeed);
  CaseStride stride;
  for (const std::uint32_t k : kEntries) {
    if (!stride.takes_next()) continue;
    Noise noise(kSeed);
    Samples samples;
    for (int i = 0; i < 20'000; ++i)
      samples.append(i / 10'000.0 - 1 + noise.unit() * 0x1p-20,
                     std::ldexp(noise.unit(), -static_cast<int>(noise.below(3)) * 100));
    for (int i = 0; i < 10'000; ++i) samples.append(1.5 + i / 20'000.0, std::ldexp(noise.unit(), -200));
    check_fit("weights 1 to 2^-200", samples, k);
    const FittedCodebook fitted = fit_codebook(samples, {.entries = k, .outlier_fraction = 0});
    const std::vector<float> values(fitted.codebook.values().begin(), fitted.codebook.values().end());
    CHECK(values.front() >= static_cast<float>(samples.front()));
    CHECK(values.back() <= static_cast<float>(samples.back()));
    CHECK(std::adjacent_find(values.begin(), values.end(), std::greater_equal<>()) == values.end());
  }
}
