// 16-bit floats of both kinds, independent of decode.h.
#include <cmath>
#include <vector>

#include "instructions.h"
#include "products.h"

namespace emulator {
namespace {

struct Shape {
  int precision;     // Bits of the significand, the implied one too.
  int exponent_min;  // Of normal numbers.
  std::uint32_t infinity;
};
constexpr Shape kF16{11, -14, 0x7C00};
constexpr Shape kBf16{8, -126, 0x7F80};

float value_of(const Shape& shape, std::uint32_t bits) {
  const std::uint32_t magnitude = bits & 0x7FFFU;
  const double sign = (bits & 0x8000U) != 0 ? -1.0 : 1.0;
  if (magnitude > shape.infinity) return std::nanf("");
  if (magnitude == shape.infinity) return static_cast<float>(sign * HUGE_VAL);
  const std::uint32_t hidden = 1U << (shape.precision - 1);
  const std::uint32_t exponent = magnitude / hidden;
  const std::uint32_t significand = exponent == 0 ? magnitude : magnitude % hidden + hidden;
  const int scale = shape.exponent_min + (exponent == 0 ? 0 : static_cast<int>(exponent) - 1) - (shape.precision - 1);
  return static_cast<float>(sign * std::ldexp(static_cast<double>(significand), scale));
}

std::vector<float> table_of(const Shape& shape) {
  std::vector<float> table(65536);
  for (std::uint32_t bits = 0; bits < 65536; ++bits) table[bits] = value_of(shape, bits);
  return table;
}

// Both results rounded once: sums of products of two f16 numbers, with a third one, are exact enough in double that no
// double is a tie of f16 numbers by rounding.
template <class Function>
std::uint32_t of_each_half(const Function& function) {
  return std::uint32_t{function(0U)} | std::uint32_t{function(16U)} << 16;
}
double f16_at(std::uint32_t word, unsigned shift) {
  return static_cast<double>(widen_half(true, static_cast<std::uint16_t>(word >> shift)));
}

}  // namespace

const float* half_values(bool f16) {
  static const std::vector<float> f16_values = table_of(kF16);
  static const std::vector<float> bf16_values = table_of(kBf16);
  return (f16 ? f16_values : bf16_values).data();
}

float widen_half(bool f16, std::uint16_t bits) {
  return f16 ? half_values(true)[bits] : bit_cast<float>(std::uint32_t{bits} << 16);
}

std::uint16_t narrow_half(bool f16, double number) {
  const Shape& shape = f16 ? kF16 : kBf16;
  if (std::isnan(number)) return 0x7FFF;
  const std::uint32_t sign = std::signbit(number) ? 0x8000U : 0U;
  const double magnitude = std::fabs(number);
  if (magnitude == 0.0) return static_cast<std::uint16_t>(sign);
  if (std::isinf(magnitude)) return static_cast<std::uint16_t>(sign | shape.infinity);
  const int exponent = std::max(std::ilogb(magnitude), shape.exponent_min);
  // In units of the last place; a significand that rounds up to the next power of two carries into the exponent.
  const double units = std::nearbyint(std::ldexp(magnitude, shape.precision - 1 - exponent));
  const double bits = std::ldexp(exponent - shape.exponent_min, shape.precision - 1) + units;
  return static_cast<std::uint16_t>(sign |
                                    (bits >= shape.infinity ? shape.infinity : static_cast<std::uint32_t>(bits)));
}

std::uint32_t fma_f16x2(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  return of_each_half(
      [=](unsigned shift) { return narrow_half(true, f16_at(a, shift) * f16_at(b, shift) + f16_at(c, shift)); });
}

std::uint32_t subtract_f16x2(std::uint32_t a, std::uint32_t b) {
  return of_each_half([=](unsigned shift) { return narrow_half(true, f16_at(a, shift) - f16_at(b, shift)); });
}

}  // namespace emulator
