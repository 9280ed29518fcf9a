// binary16 and bf16, by arithmetic on f64. Nothing here calls the library's conversions: it is what they are compared
// with.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace cdna::test {

// The value of a number of `fraction_bits` and `bias`, given without its sign; not for NaN.
inline double small_float_value(std::uint32_t magnitude, int fraction_bits, int bias, std::uint32_t exponent_end) {
  const std::uint32_t exponent = magnitude >> fraction_bits;
  const std::uint32_t fraction = magnitude & ((1U << fraction_bits) - 1);
  if (exponent == exponent_end)
    return fraction == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  if (exponent == 0) return std::ldexp(fraction, 1 - bias - fraction_bits);
  return std::ldexp((1U << fraction_bits) + fraction, static_cast<int>(exponent) - bias - fraction_bits);
}

// Round to nearest, ties to even, of a number that is not NaN: the multiple of the unit in the last place that
// nearbyint finds.
inline std::uint16_t rounded_small_float(double value, int fraction_bits, int bias, std::uint32_t exponent_end) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::abs(value);
  const auto infinity = static_cast<std::uint16_t>(exponent_end << fraction_bits);
  if (magnitude == std::numeric_limits<double>::infinity()) return sign | infinity;
  if (magnitude == 0) return sign;
  const int exponent = std::max(std::ilogb(magnitude), 1 - bias);
  const double units =
      std::nearbyint(std::ldexp(magnitude, fraction_bits - exponent));  // 2^fraction_bits: the next octave.
  const double bits = std::ldexp(exponent + bias - 1, fraction_bits) + units;
  return bits >= infinity ? sign | infinity : static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(bits));
}

// Not for NaN.
inline double value_of_f16(std::uint16_t bits) {
  const double magnitude = small_float_value(bits & 0x7FFFU, 10, 15, 31);
  return bits >> 15 != 0 ? -magnitude : magnitude;
}

inline double value_of_bf16(std::uint16_t bits) {
  const double magnitude = small_float_value(bits & 0x7FFFU, 7, 127, 255);
  return bits >> 15 != 0 ? -magnitude : magnitude;
}

// To nearest, ties to even. Not for NaN.
inline std::uint16_t f16_of(double value) { return rounded_small_float(value, 10, 15, 31); }
inline std::uint16_t bf16_of(double value) { return rounded_small_float(value, 7, 127, 255); }

}  // namespace cdna::test
