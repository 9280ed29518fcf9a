// The synthetic weights have the distributions that their names say.
#include "tools/bench/weight_sources.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <vector>

using namespace cdna::tools::bench;

namespace {

constexpr double kPi = 3.14159265358979323846;

// z alone, a million of them.
const WeightOptions kUnspread{1000, 1000, 4, 0, 0};

std::vector<double> values_of(Distribution distribution, const WeightOptions& options) {
  const std::vector<float> weights = make_weights(distribution, options, 2);
  return {weights.begin(), weights.end()};
}

double moment(const std::vector<double>& values, int power) {
  double sum = 0;
  for (const double value : values) sum += std::pow(value, power);
  return sum / static_cast<double>(values.size());
}

double mean(const std::vector<double>& values) { return moment(values, 1); }

double standard_deviation(const std::vector<double>& values) {
  return std::sqrt(moment(values, 2) - mean(values) * mean(values));
}

// Kolmogorov and Smirnov's statistic times sqrt(n): above 1.95 with a probability of 0.1 %.
double distance_from(const std::function<double(double)>& distribution_function, std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto count = static_cast<double>(values.size());
  double largest = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double expected = distribution_function(values[i]);
    largest =
        std::max({largest, expected - static_cast<double>(i) / count, static_cast<double>(i + 1) / count - expected});
  }
  return largest * std::sqrt(count);
}

double gaussian_cdf(double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; }

// Abramowitz and Stegun 26.7.3 and 26.7.4, of variates scaled to unit variance.
double student6_cdf(double x) {
  const double angle = std::atan(x * std::sqrt(1.5) / std::sqrt(6.0));
  const double c = std::cos(angle) * std::cos(angle);
  return 0.5 + std::sin(angle) * (1 + c / 2 + 3 * c * c / 8) / 2;
}
double student3_cdf(double x) {
  const double angle = std::atan(x);
  return 0.5 + (angle + std::sin(angle) * std::cos(angle)) / kPi;
}

}  // namespace

TEST_CASE("weight sources: values follow their distribution function") {
  INFO("seed " << kUnspread.seed);
  const auto outliers_cdf = [](double x) { return 0.999 * student6_cdf(x) + 0.001 * student6_cdf(x / 8); };
  CHECK(distance_from(gaussian_cdf, values_of(Distribution::gaussian, kUnspread)) < 1.95);
  CHECK(distance_from(student6_cdf, values_of(Distribution::student6, kUnspread)) < 1.95);
  CHECK(distance_from(outliers_cdf, values_of(Distribution::student6_outliers, kUnspread)) < 1.95);
  CHECK(distance_from(student3_cdf, values_of(Distribution::student3, kUnspread)) < 1.95);
  // And the test can tell them apart.
  CHECK(distance_from(student6_cdf, values_of(Distribution::gaussian, kUnspread)) > 10);
}

TEST_CASE("weight sources: mean, variance and kurtosis are those of theory") {
  INFO("seed " << kUnspread.seed);
  const std::vector<double> gaussian = values_of(Distribution::gaussian, kUnspread);
  // Four standard errors: 1, sqrt(2) and sqrt(96) over 1000.
  CHECK(std::abs(mean(gaussian)) < 0.004);
  CHECK(moment(gaussian, 2) == Approx(1).margin(0.0057));
  CHECK(moment(gaussian, 4) == Approx(3).margin(0.04));

  const std::vector<double> student6 = values_of(Distribution::student6, kUnspread);
  CHECK(std::abs(mean(student6)) < 0.004);
  CHECK(moment(student6, 2) == Approx(1).margin(0.009));  // The fourth moment is 6: sqrt(5) over 1000.
  // 3 + 6 / (6 - 4). It has no standard error: the eighth moment is infinite. Means of x^4, whose tail is that of
  // t^1.5, err by n^(1 / 1.5 - 1) = 1 % times the tail's scale.
  CHECK(moment(student6, 4) == Approx(6).margin(0.6));
  // E|t| = 2 sqrt(6) / (5 B(3, 1/2)), B(3, 1/2) = 16/15.
  double sum = 0;
  for (const double value : student6) sum += std::abs(value);
  CHECK(sum / 1e6 == Approx(2 * std::sqrt(6.0) / 5 * 15 / 16 / std::sqrt(1.5)).margin(0.003));
}

TEST_CASE("weight sources: outliers are 0.1 % of the values of B, times 8") {
  INFO("seed " << kUnspread.seed);
  const std::vector<double> b = values_of(Distribution::student6, kUnspread);
  const std::vector<double> c = values_of(Distribution::student6_outliers, kUnspread);
  int outliers = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    if (b[i] == c[i]) continue;
    ++outliers;
    REQUIRE(c[i] == 8 * b[i]);
  }
  CHECK(std::abs(outliers - 1000) < 4 * 31.6);  // Poisson.
  CHECK(variance_of(Distribution::student6_outliers) == Approx(0.999 + 0.001 * 64));
}

TEST_CASE("weight sources: rows and columns are lognormal with their spreads, and factors of the values") {
  const WeightOptions options;  // 4096 of each.
  INFO("seed " << options.seed);
  const std::vector<double> rows = log_row_sigmas(options);
  const std::vector<double> columns = log_column_sigmas(options);
  // Four standard errors: spread / 64, spread / 64 / sqrt(2).
  CHECK(std::abs(mean(rows)) < 0.019);
  CHECK(std::abs(mean(columns)) < 0.0125);
  CHECK(standard_deviation(rows) == Approx(0.3).margin(0.0133));
  CHECK(standard_deviation(columns) == Approx(0.2).margin(0.0089));
  CHECK(distance_from([](double x) { return gaussian_cdf(x / 0.3); }, rows) < 1.95);
  CHECK(distance_from([](double x) { return gaussian_cdf(x / 0.2); }, columns) < 1.95);

  const WeightOptions small{7, 5, 9, 0.3, 0.2};
  const WeightOptions unspread{7, 5, 9, 0, 0};
  const std::vector<float> spread_values = make_weights(Distribution::student3, small, 1);
  const std::vector<float> plain_values = make_weights(Distribution::student3, unspread, 1);
  for (std::size_t i = 0; i < 35; ++i) {
    const double sigma = std::exp(log_row_sigmas(small)[i / 5] + log_column_sigmas(small)[i % 5]);
    CHECK(static_cast<double>(spread_values[i]) == Approx(static_cast<double>(plain_values[i]) * sigma).epsilon(1e-6));
  }
}

TEST_CASE("weight sources: neighbours are not correlated, neither along rows nor along columns") {
  INFO("seed " << kUnspread.seed);
  const std::vector<double> z = values_of(Distribution::gaussian, kUnspread);
  for (const std::size_t lag : {1U, 2U, 3U, 1000U}) {
    double sum = 0;
    for (std::size_t i = lag; i < z.size(); ++i) sum += z[i] * z[i - lag];
    CHECK(std::abs(sum / 1e6) < 0.004);
  }
}

TEST_CASE("weight sources: the same seed gives the same values on any number of threads, another seed others") {
  const WeightOptions options{37, 53, 5, 0.3, 0.2};
  WeightOptions other = options;
  other.seed = 6;
  for (const WeightSource& source : weight_sources()) {
    const std::vector<float> weights = make_weights(source.distribution, options, 1);
    CHECK(weights.size() == 37 * 53);
    CHECK(weights == make_weights(source.distribution, options, 3));
    CHECK(weights != make_weights(source.distribution, other, 1));
    CHECK(std::all_of(weights.begin(), weights.end(), [](float value) { return std::isfinite(value); }));
  }
}

TEST_CASE("weight sources: entropies are the closed forms") {
  CHECK(entropy_nats(Distribution::gaussian) == Approx(std::log(2 * kPi * std::exp(1.0)) / 2).epsilon(1e-12));
  // (v + 1) / 2 (psi((v + 1) / 2) - psi(v / 2)) + ln(sqrt(v) B(v / 2, 1 / 2)) (Lazo and Rathie 1978), less ln of the
  // scale.
  const double euler = 0.57721566490153286;
  const double psi_half = -euler - 2 * std::log(2.0);
  const double student6 =
      3.5 * ((psi_half + 2 + 2.0 / 3 + 2.0 / 5) - (-euler + 1.5)) + std::log(std::sqrt(6.0) * 16 / 15);
  CHECK(entropy_nats(Distribution::student6) == Approx(student6 - std::log(1.5) / 2).epsilon(1e-9));
  const double student3 = 2 * ((-euler + 1) - (psi_half + 2)) + std::log(std::sqrt(3.0) * kPi / 2);
  CHECK(entropy_nats(Distribution::student3) == Approx(student3 - std::log(3.0) / 2).epsilon(1e-9));
  // Of a mixture: more than the mean of the parts' entropies, by at most that of the choice.
  const double parts = entropy_nats(Distribution::student6) + 0.001 * std::log(8.0);
  const double choice = -0.001 * std::log(0.001) - 0.999 * std::log(0.999);
  CHECK(entropy_nats(Distribution::student6_outliers) > parts);
  CHECK(entropy_nats(Distribution::student6_outliers) < parts + choice);
}
