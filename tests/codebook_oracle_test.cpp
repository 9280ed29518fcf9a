// The oracle of codebooks against all assignments of few values, and against what is known of the Gaussian.
#include "codebook_oracle.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

constexpr std::uint64_t kSeed = 1958;

// SplitMix64.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t below(std::uint64_t end) { return next() % end; }
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  std::uint64_t next() {
    state_ += 0x9E3779B97F4A7C15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  std::uint64_t state_;
};

struct Weighted {
  std::vector<double> values;
  std::vector<double> weights;
};

// The error of one assignment of values to clusters, each with its mean.
double error_of(const Weighted& data, const std::vector<unsigned>& clusters, unsigned k) {
  double error = 0;
  for (unsigned cluster = 0; cluster < k; ++cluster) {
    double weight = 0;
    double moment = 0;
    for (std::size_t i = 0; i < data.values.size(); ++i) {
      if (clusters[i] != cluster) continue;
      weight += data.weights[i];
      moment += data.weights[i] * data.values[i];
    }
    if (weight == 0) continue;
    for (std::size_t i = 0; i < data.values.size(); ++i) {
      const double distance = data.values[i] - moment / weight;
      if (clusters[i] == cluster) error += data.weights[i] * distance * distance;
    }
  }
  return error;
}

// Over all k^n assignments, intervals or not.
double brute_force(const Weighted& data, unsigned k) {
  std::vector<unsigned> clusters(data.values.size());
  double best = std::numeric_limits<double>::infinity();
  for (;;) {
    best = std::min(best, error_of(data, clusters, k));
    std::size_t i = 0;
    while (i < clusters.size() && ++clusters[i] == k) clusters[i++] = 0;
    if (i == clusters.size()) return best;
  }
}

Weighted few_values(Random& random, std::size_t count) {
  Weighted data;
  const bool coarse = random.below(3) == 0;  // Many equal values and equal distances.
  const double offset = random.below(2) == 0 ? 0 : 100;
  for (std::size_t i = 0; i < count; ++i) {
    const double value = coarse ? static_cast<double>(random.below(5)) : random.unit();
    data.values.push_back(offset + value);
    data.weights.push_back(random.below(5) == 0 ? 0 : coarse ? 1 : random.unit());
  }
  data.weights[random.below(count)] = 2;
  std::sort(data.values.begin(), data.values.end());
  return data;
}

// Masses of a standard Gaussian's bins within +-8, at their centres.
Weighted gaussian_histogram(std::size_t bins) {
  Weighted data;
  const double width = 16 / static_cast<double>(bins);
  for (std::size_t i = 0; i < bins; ++i) {
    const double low = -8 + width * static_cast<double>(i);
    data.values.push_back(low + width / 2);
    data.weights.push_back((std::erfc(low / std::sqrt(2.0)) - std::erfc((low + width) / std::sqrt(2.0))) / 2);
  }
  return data;
}

double gaussian_density(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * 3.141592653589793); }
double gaussian_tail(double x) { return std::erfc(x / std::sqrt(2.0)) / 2; }

// By Lloyd's method on the density itself; of a log-concave one its fixed point is the optimum (Fleischer 1964).
double lloyd_max_error(unsigned k) {
  std::vector<double> entries(k);
  for (unsigned i = 0; i < k; ++i) entries[i] = -3 + 6 * (i + 0.5) / k;
  double explained = 0;
  for (int round = 0; round < 20000; ++round) {
    explained = 0;
    double low = -std::numeric_limits<double>::infinity();
    const std::vector<double> before = entries;
    for (unsigned i = 0; i < k; ++i) {
      const double high = i + 1 == k ? std::numeric_limits<double>::infinity() : (before[i] + before[i + 1]) / 2;
      const double mass = gaussian_tail(low) - gaussian_tail(high);
      entries[i] = (gaussian_density(low) - gaussian_density(high)) / mass;
      explained += mass * entries[i] * entries[i];
      low = high;
    }
  }
  return 1 - explained;
}

double gaussian_db(std::size_t bins, unsigned k) {
  const Weighted data = gaussian_histogram(bins);
  return -10 * std::log10(least_squared_error(data.values, data.weights, k));
}

}  // namespace

TEST_CASE("codebook oracle: no assignment of a few values has a smaller error") {
  INFO("seed " << kSeed);
  Random random(kSeed);
  for (int round = 0; round < 400; ++round) {
    const std::size_t count = 1 + random.below(7);
    const Weighted data = few_values(random, count);
    for (unsigned k = 1; k <= 3; ++k) {
      const OptimalCodebook ours = optimal_codebook(data.values, data.weights, k);
      INFO("round " << round << ", " << count << " values, k " << k);
      REQUIRE(ours.squared_error == Approx(brute_force(data, k)).epsilon(1e-9).margin(1e-12));
      REQUIRE(ours.squared_error == squared_error_of(ours.entries, data.values, data.weights));
      REQUIRE(std::is_sorted(ours.entries.begin(), ours.entries.end()));
      REQUIRE(ours.entries.size() <= k);
    }
  }
}

TEST_CASE("codebook oracle: as many entries as distinct values have no error") {
  const std::vector<double> values{-3, -1, -1, 0, 2.5, 7};
  const std::vector<double> weights{1, 2, 3, 0, 1, 4};
  for (const unsigned k : {4U, 5U, 256U}) {
    const OptimalCodebook codebook = optimal_codebook(values, weights, k);
    CHECK(codebook.entries == std::vector<double>{-3, -1, 2.5, 7});
    CHECK(codebook.squared_error == 0);
  }
  CHECK(optimal_codebook(values, weights, 1).entries[0] == Approx(22.5 / 11));
}

TEST_CASE("codebook oracle: entries for two clusters by hand") {
  // {0, 1} around 1/2, and {10, 14, 14} around 38/3: (8/3)^2 + 2 (4/3)^2 = 32/3.
  const std::vector<double> values{0, 1, 10, 14};
  const std::vector<double> weights{1, 1, 1, 2};
  const OptimalCodebook codebook = optimal_codebook(values, weights, 2);
  CHECK(codebook.entries[0] == Approx(0.5));
  CHECK(codebook.entries[1] == Approx(38.0 / 3));
  CHECK(codebook.squared_error == Approx(0.5 + 32.0 / 3));
}

// Max 1960, "Quantizing for minimum distortion", table I (its later digits are off), and Lloyd's conditions.
TEST_CASE("codebook oracle: the Gaussian's optimal quantisers have the errors of theory") {
  constexpr std::size_t kBins = 1 << 13;
  const Weighted data = gaussian_histogram(kBins);
  const double within_bins = std::pow(16.0 / kBins, 2) / 12;  // Of values that bins stand for.
  const auto error = [&](unsigned k) { return within_bins + least_squared_error(data.values, data.weights, k); };
  CHECK(error(1) == Approx(1).epsilon(1e-6));
  CHECK(error(2) == Approx(0.3634).margin(5e-5));
  CHECK(error(3) == Approx(0.1902).margin(5e-5));
  CHECK(error(4) == Approx(0.1175).margin(5e-5));
  for (const unsigned k : {2U, 3U, 4U, 8U, 16U, 32U}) CHECK(error(k) == Approx(lloyd_max_error(k)).epsilon(2e-4));
}

TEST_CASE("codebook oracle: 256 entries come near Panter and Dite's asymptote") {
  // pi sqrt(3) / 2 / k^2, which finite k stays a little under: 43.81 dB at 256.
  const double asymptote_db = 10 * std::log10(256 * 256 * 2 / (3.14159265358979 * std::sqrt(3.0)));
  const double db = gaussian_db(1 << 14, 256);
  CHECK(db > asymptote_db);
  CHECK(db < asymptote_db + 0.1);
}

TEST_CASE("codebook oracle: each entry is the mean of its values and Lloyd's step changes nothing") {
  INFO("seed " << kSeed);
  Random random(kSeed + 1);
  Weighted data;
  for (int i = 0; i < 3000; ++i) {
    data.values.push_back(std::tan(3 * (random.unit() - 0.5)));
    data.weights.push_back(static_cast<double>(1 + random.below(9)));
  }
  std::sort(data.values.begin(), data.values.end());
  const OptimalCodebook codebook = optimal_codebook(data.values, data.weights, 37);
  REQUIRE(codebook.entries.size() == 37);
  std::vector<double> weight(37);
  std::vector<double> moment(37);
  for (std::size_t i = 0; i < data.values.size(); ++i) {
    std::size_t nearest = 0;
    for (std::size_t j = 1; j < 37; ++j)
      if (std::abs(codebook.entries[j] - data.values[i]) < std::abs(codebook.entries[nearest] - data.values[i]))
        nearest = j;
    weight[nearest] += data.weights[i];
    moment[nearest] += data.weights[i] * data.values[i];
  }
  for (std::size_t j = 0; j < 37; ++j) CHECK(moment[j] / weight[j] == Approx(codebook.entries[j]).epsilon(1e-9));
}

TEST_CASE("codebook oracle: an entry more never makes it worse, and a far offset does not change it") {
  Random random(kSeed + 2);
  Weighted data;
  Weighted far;
  for (int i = 0; i < 500; ++i) {
    const double value = std::floor(random.unit() * 0x1p20);
    data.values.push_back(value);
    data.weights.push_back(static_cast<double>(random.below(4)));
  }
  std::sort(data.values.begin(), data.values.end());
  far = data;
  for (double& value : far.values) value += 0x1p40;
  double previous = std::numeric_limits<double>::infinity();
  for (unsigned k = 1; k <= 64; k += 3) {
    const double error = least_squared_error(data.values, data.weights, k);
    CHECK(error < previous);
    CHECK(least_squared_error(far.values, far.weights, k) == Approx(error).epsilon(1e-6));
    previous = error;
  }
}
