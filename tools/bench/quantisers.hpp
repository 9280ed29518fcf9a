// What other formats do with the same weights: values as they would come back, and what they cost.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace cdna::tools::bench {

struct Quantised {
  std::vector<float> values;  // [rows, cols], decoded.
  double bits_per_weight = 0;
};

struct Quantiser {
  std::string_view name;         // "int8-g32"
  std::string_view description;  // What it is and what its scales cost, one line.
  // Of row-major values, at least one, all finite, `cols` in a row; groups begin anew with each row.
  Quantised (*quantise)(std::span<const float> values, std::uint64_t cols);
};

// kmeans-percentile, int8-g32, int4-affine-g32, nf4-g64. Static storage.
std::span<const Quantiser> quantisers();

// The binary16 number nearest to `value`, ties to even; beyond its range ±65504.
float round_to_half(float value);

struct SquareSums {
  double signal = 0;
  double error = 0;       // Of source - decoded.
  double snr_db() const;  // +Inf without error.
};
// In f64. Requires: spans of equal length.
SquareSums square_sums(std::span<const float> source, std::span<const float> decoded);

}  // namespace cdna::tools::bench
