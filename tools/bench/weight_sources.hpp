// Synthetic weights: heavy tails, outliers, and rows and columns of different size, as trained matrices have them.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace cdna::tools::bench {

// Of z in w = z * row sigma * column sigma; unit variance (but for the outliers of student6_outliers).
enum class Distribution : std::uint8_t {
  gaussian,
  student6,           // Student's t, 6 degrees of freedom.
  student6_outliers,  // The same values, of which each is multiplied by 8 with a probability of 0.1 %.
  student3,           // Student's t, 3 degrees of freedom: no fourth moment.
};

struct WeightSource {
  std::string_view name;         // "A"
  std::string_view description;  // "Gaussian"
  Distribution distribution;
};
// A, B, C and t3. Static storage.
std::span<const WeightSource> weight_sources();

struct WeightOptions {
  std::uint64_t rows = 4096;
  std::uint64_t cols = 4096;
  std::uint64_t seed = 4;
  double row_spread = 0.3;     // Standard deviation of ln(row sigma), which is normal with mean 0.
  double column_spread = 0.2;  // Likewise.
};

// [rows, cols], row-major. Every value is a function of seed and place, so all distributions share their random
// numbers, and threads do not matter. Libms differ in the last bits. Requires: threads > 0.
std::vector<float> make_weights(Distribution distribution, const WeightOptions& options, unsigned threads);

// ln(row sigma) and ln(column sigma) of make_weights().
std::vector<double> log_row_sigmas(const WeightOptions& options);
std::vector<double> log_column_sigmas(const WeightOptions& options);

// Of z: 1, but for the outliers of student6_outliers.
double variance_of(Distribution distribution);

// Differential entropy of z in nats: ln(2 pi e) / 2 for the Gaussian.
double entropy_nats(Distribution distribution);

}  // namespace cdna::tools::bench
