// Quantisers in groups, in the order of the table.
#include "tools/bench/quantisers.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "tools/bench/percentile_kmeans.hpp"

namespace cdna::tools::bench {
namespace {

constexpr double kHalfBits = 16;

// One group's values to its decoded values.
using GroupQuantiser = void (*)(std::span<const float> values, std::span<float> decoded);

struct GroupLayout {
  std::uint64_t values;   // In a group; the last of a row may have fewer.
  double bits_per_value;  // Of a code.
  double bits_per_group;  // Of scale and zero.
};

Quantised quantise_groups(std::span<const float> values, std::uint64_t cols, const GroupLayout& layout,
                          GroupQuantiser quantise_group) {
  Quantised out;
  out.values.resize(values.size());
  std::uint64_t groups = 0;
  for (std::uint64_t row = 0; row < values.size(); row += cols) {
    for (std::uint64_t begin = 0; begin < cols; begin += layout.values, ++groups) {
      const std::uint64_t size = std::min(layout.values, cols - begin);
      quantise_group(values.subspan(row + begin, size), std::span(out.values).subspan(row + begin, size));
    }
  }
  out.bits_per_weight =
      layout.bits_per_value + layout.bits_per_group * static_cast<double>(groups) / static_cast<double>(values.size());
  return out;
}

float largest_magnitude(std::span<const float> values) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

// The integer in [least, most] whose multiple of `scale` is nearest; 0 where all are zero.
float nearest_step(float value, float scale, float least, float most) {
  return scale == 0 ? 0 : std::clamp(std::nearbyint(value / scale), least, most);
}

void quantise_int8_group(std::span<const float> values, std::span<float> decoded) {
  const float scale = round_to_half(largest_magnitude(values) / 127);
  for (std::size_t i = 0; i < values.size(); ++i) decoded[i] = scale * nearest_step(values[i], scale, -127, 127);
}

void quantise_int4_group(std::span<const float> values, std::span<float> decoded) {
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  const float zero = round_to_half(*least);
  const float scale = round_to_half((*most - *least) / 15);
  for (std::size_t i = 0; i < values.size(); ++i)
    decoded[i] = zero + scale * nearest_step(values[i] - zero, scale, 0, 15);
}

// Dettmers et al. 2023, "QLoRA", appendix E.
constexpr std::array<float, 16> kNormalFloat4{
    -1.0F,
    -0.6961928009986877F,
    -0.5250730514526367F,
    -0.39491748809814453F,
    -0.28444138169288635F,
    -0.18477343022823334F,
    -0.09105003625154495F,
    0.0F,
    0.07958029955625534F,
    0.16093020141124725F,
    0.24611230194568634F,
    0.33791524171829224F,
    0.44070982933044434F,
    0.5626170039176941F,
    0.7229568362236023F,
    1.0F,
};

float nearest_normal_float4(float value) {
  const auto* const above = std::lower_bound(kNormalFloat4.begin() + 1, kNormalFloat4.end() - 1, value);
  const float below = *(above - 1);
  return value - below <= *above - value ? below : *above;
}

void quantise_nf4_group(std::span<const float> values, std::span<float> decoded) {
  const float scale = round_to_half(largest_magnitude(values));
  for (std::size_t i = 0; i < values.size(); ++i)
    decoded[i] = scale == 0 ? 0 : scale * nearest_normal_float4(values[i] / scale);
}

constexpr std::array<Quantiser, 4> kQuantisers{{
    {"kmeans-percentile",
     "the Python original: 256 entries from percentiles, at most 10 Lloyd rounds on 500000 values drawn by a generator "
     "of our own, at most 512 outliers in f16",
     quantise_by_percentile_kmeans},
    {"int8-g32", "int8, absmax of 32 values in f16 (0.5 bits), as Q8_0",
     [](std::span<const float> values, std::uint64_t cols) {
       return quantise_groups(values, cols, {32, 8, kHalfBits}, quantise_int8_group);
     }},
    {"int4-affine-g32", "int4, scale and zero of 32 values in f16 (1 bit)",
     [](std::span<const float> values, std::uint64_t cols) {
       return quantise_groups(values, cols, {32, 4, 2 * kHalfBits}, quantise_int4_group);
     }},
    {"nf4-g64", "NormalFloat4, absmax of 64 values in f16 (0.25 bits; in f32 it were 0.5, quantised again 0.127)",
     [](std::span<const float> values, std::uint64_t cols) {
       return quantise_groups(values, cols, {64, 4, kHalfBits}, quantise_nf4_group);
     }},
}};

}  // namespace

std::span<const Quantiser> quantisers() { return kQuantisers; }

float round_to_half(float value) {
  constexpr int kFractionBits = 10;
  constexpr int kLeastExponent = -14;  // Of normal numbers.
  constexpr double kLargest = 65504;
  if (value == 0) return value;
  const int step_exponent = std::max(std::ilogb(value), kLeastExponent) - kFractionBits;
  const double steps = std::nearbyint(std::ldexp(static_cast<double>(value), -step_exponent));
  return static_cast<float>(std::clamp(std::ldexp(steps, step_exponent), -kLargest, kLargest));
}

double SquareSums::snr_db() const { return 10 * std::log10(signal / error); }

SquareSums square_sums(std::span<const float> source, std::span<const float> decoded) {
  SquareSums sums;
  for (std::size_t i = 0; i < source.size(); ++i) {
    const auto value = static_cast<double>(source[i]);
    const double error = value - static_cast<double>(decoded[i]);
    sums.signal += value * value;
    sums.error += error * error;
  }
  return sums;
}

}  // namespace cdna::tools::bench
