// OCP 8-bit Floating Point 1.0 (E4M3, E5M2), OCP Microscaling 1.0 (E8M0, E2M3, E3M2, E2M1), and for the FNUZ forms
// Noune et al. 2022, "8-bit Numerical Formats for Deep Neural Networks".
#include "tiny_floats.hpp"

#include <cmath>
#include <limits>
#include <stdexcept>

#include "codebook_file.hpp"

namespace cdna::test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Sign, exponent, fraction, as IEEE 754 has them, without special values.
double plain_value(std::uint32_t bits, int exponent_bits, int fraction_bits, int bias) {
  const std::uint32_t fraction = bits & ((1U << fraction_bits) - 1);
  const std::uint32_t exponent = bits >> fraction_bits & ((1U << exponent_bits) - 1);
  const double sign = (bits >> (exponent_bits + fraction_bits) & 1U) != 0 ? -1 : 1;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp((1U << fraction_bits) + fraction, static_cast<int>(exponent) - bias - fraction_bits);
}

double e5m2_value(std::uint32_t bits) {
  const std::uint32_t magnitude = bits & 0x7FU;
  if (magnitude > 0x7CU) return kNan;
  if (magnitude == 0x7CU) return bits >> 7 != 0 ? -kInfinity : kInfinity;
  return plain_value(bits, 5, 2, 15);
}

}  // namespace

double value_of_tiny(DType dtype, std::uint32_t bits) {
  switch (dtype) {
    case DType::f8_e4m3:
      return (bits & 0x7FU) == 0x7FU ? kNan : plain_value(bits, 4, 3, 7);
    case DType::f8_e5m2:
      return e5m2_value(bits);
    case DType::f8_e8m0:
      return bits == 0xFFU ? kNan : std::ldexp(1.0, static_cast<int>(bits) - 127);
    case DType::f8_e4m3fnuz:
      return bits == 0x80U ? kNan : plain_value(bits, 4, 3, 8);
    case DType::f8_e5m2fnuz:
      return bits == 0x80U ? kNan : plain_value(bits, 5, 2, 16);
    case DType::f6_e2m3:
      return plain_value(bits, 2, 3, 1);
    case DType::f6_e3m2:
      return plain_value(bits, 3, 2, 3);
    case DType::f4:
      return plain_value(bits, 2, 1, 1);
    default:
      throw std::runtime_error("not a tiny float");
  }
}

double value_at(DType dtype, const std::byte* row, std::uint64_t index) {
  if (is_float(dtype)) return float_at(dtype, row, index);
  const std::uint32_t width = bits_of(dtype);
  std::uint32_t bits = 0;
  for (std::uint32_t i = 0; i < width; ++i) {
    const std::uint64_t bit = index * width + i;
    bits |= (std::to_integer<std::uint32_t>(row[bit / 8]) >> (bit % 8) & 1U) << i;
  }
  return value_of_tiny(dtype, bits);
}

}  // namespace cdna::test
