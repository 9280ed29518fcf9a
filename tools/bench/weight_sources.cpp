// Numbers from counters, and what they become.
#include "tools/bench/weight_sources.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "tools/parallel.hpp"

namespace cdna::tools::bench {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr double kOutlierShare = 0.001;
constexpr double kOutlierFactor = 8;

constexpr std::array<WeightSource, 4> kSources{{
    {"A", "Gaussian", Distribution::gaussian},
    {"B", "Student t, 6 degrees of freedom", Distribution::student6},
    {"C", "B with 0.1 % outliers times 8", Distribution::student6_outliers},
    {"t3", "Student t, 3 degrees of freedom", Distribution::student3},
}};

// SplitMix64 (Steele, Lea, Flood 2014) read at any place.
class CounterRandom {
 public:
  CounterRandom(std::uint64_t seed, std::uint64_t stream) : start_(mix(seed + kStep * stream)) {}
  // Uniform in (0, 1).
  double unit(std::uint64_t place) const {
    return (static_cast<double>(mix(start_ + kStep * (place + 1)) >> 11) + 0.5) * 0x1p-53;
  }

 private:
  static constexpr std::uint64_t kStep = 0x9E3779B97F4A7C15;
  static std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  std::uint64_t start_;
};

enum Stream : std::uint64_t { kValues = 1, kRows = 2, kColumns = 3 };

// Box and Muller 1958.
double gaussian(double u, double v) { return std::sqrt(-2 * std::log(u)) * std::cos(2 * kPi * v); }

// Bailey 1994, "Polar generation of random variates with the t-distribution": the same with another radius.
double student(double degrees, double u, double v) {
  return std::sqrt(degrees * std::expm1(-2 / degrees * std::log(u))) * std::cos(2 * kPi * v);
}

double unit_student(double degrees, double u, double v) {
  return student(degrees, u, v) * std::sqrt((degrees - 2) / degrees);  // Its variance is degrees / (degrees - 2).
}

// The value at a place, before its sigmas.
double standard_value(Distribution distribution, const CounterRandom& random, std::uint64_t place) {
  const double u = random.unit(3 * place);
  const double v = random.unit(3 * place + 1);
  switch (distribution) {
    case Distribution::gaussian:
      return gaussian(u, v);
    case Distribution::student6:
      return unit_student(6, u, v);
    case Distribution::student6_outliers:
      return unit_student(6, u, v) * (random.unit(3 * place + 2) < kOutlierShare ? kOutlierFactor : 1);
    case Distribution::student3:
      return unit_student(3, u, v);
  }
  return 0;
}

std::vector<double> log_sigmas(const WeightOptions& options, Stream stream, std::uint64_t count, double spread) {
  const CounterRandom random(options.seed, stream);
  std::vector<double> logs(count);
  for (std::uint64_t i = 0; i < count; ++i) logs[i] = spread * gaussian(random.unit(2 * i), random.unit(2 * i + 1));
  return logs;
}

std::vector<double> exponentials(std::vector<double> values) {
  for (double& value : values) value = std::exp(value);
  return values;
}

// Density of Student's t scaled to unit variance; `peak` is that of t at 0.
double unit_student_density(double degrees, double peak, double x) {
  const double scale = std::sqrt(degrees / (degrees - 2));
  const double t = x * scale;
  return scale * peak * std::pow(1 + t * t / degrees, -(degrees + 1) / 2);
}

double student6_density(double x) { return unit_student_density(6, 15 / (16 * std::sqrt(6.0)), x); }

double density(Distribution distribution, double x) {
  switch (distribution) {
    case Distribution::gaussian:
      return std::exp(-x * x / 2) / std::sqrt(2 * kPi);
    case Distribution::student6:
      return student6_density(x);
    case Distribution::student6_outliers:
      return (1 - kOutlierShare) * student6_density(x) +
             kOutlierShare * student6_density(x / kOutlierFactor) / kOutlierFactor;
    case Distribution::student3:
      return unit_student_density(3, 2 / (kPi * std::sqrt(3.0)), x);
  }
  return 0;
}

}  // namespace

std::span<const WeightSource> weight_sources() { return kSources; }

std::vector<double> log_row_sigmas(const WeightOptions& options) {
  return log_sigmas(options, kRows, options.rows, options.row_spread);
}

std::vector<double> log_column_sigmas(const WeightOptions& options) {
  return log_sigmas(options, kColumns, options.cols, options.column_spread);
}

std::vector<float> make_weights(Distribution distribution, const WeightOptions& options, unsigned threads) {
  const CounterRandom random(options.seed, kValues);
  const std::vector<double> row_sigmas = exponentials(log_row_sigmas(options));
  const std::vector<double> column_sigmas = exponentials(log_column_sigmas(options));
  std::vector<float> weights(options.rows * options.cols);
  for_each_index(options.rows, threads, [&](std::size_t row) {
    const std::uint64_t begin = row * options.cols;
    for (std::uint64_t column = 0; column < options.cols; ++column) {
      const double sigma = row_sigmas[row] * column_sigmas[column];
      weights[begin + column] = static_cast<float>(standard_value(distribution, random, begin + column) * sigma);
    }
  });
  return weights;
}

double variance_of(Distribution distribution) {
  if (distribution != Distribution::student6_outliers) return 1;
  return 1 + kOutlierShare * (kOutlierFactor * kOutlierFactor - 1);
}

// The trapezoidal rule in t = asinh(x), where the integrand is analytic and falls off exponentially.
double entropy_nats(Distribution distribution) {
  constexpr double kStep = 1.0 / 64;
  constexpr int kSteps = 20 * 64;  // x up to e^20 / 2: of Student's t with 3 degrees nothing below 1e-20 is left out.
  double sum = 0;
  for (int i = -kSteps; i <= kSteps; ++i) {
    const double t = i * kStep;
    const double p = density(distribution, std::sinh(t));
    if (p > 0) sum -= p * std::log(p) * std::cosh(t);
  }
  return sum * kStep;
}

}  // namespace cdna::tools::bench
