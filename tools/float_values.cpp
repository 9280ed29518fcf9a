// Widening by what the bits mean (IEEE 754): sign, exponent, fraction.
#include "tools/float_values.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace cdna::tools {
namespace {

// A binary format narrower than f64.
struct Format {
  unsigned exponent_bits;
  unsigned fraction_bits;
};

double value_of(std::uint64_t bits, Format format) {
  constexpr unsigned kFractionBits = 52;
  constexpr std::uint64_t kQuiet = std::uint64_t{1} << (kFractionBits - 1);
  constexpr std::uint64_t kExponent = std::uint64_t{0x7FF} << kFractionBits;
  const std::uint64_t fraction = bits & ((std::uint64_t{1} << format.fraction_bits) - 1);
  const std::uint64_t exponent_max = (std::uint64_t{1} << format.exponent_bits) - 1;
  const std::uint64_t exponent = bits >> format.fraction_bits & exponent_max;
  const std::uint64_t sign = bits >> (format.exponent_bits + format.fraction_bits) << 63;
  const int bias = static_cast<int>(exponent_max >> 1);
  const std::uint64_t wide_fraction = fraction << (kFractionBits - format.fraction_bits);
  if (exponent == exponent_max)
    return std::bit_cast<double>(sign | kExponent | wide_fraction | (fraction == 0 ? 0 : kQuiet));
  if (exponent != 0) {
    const auto wide_exponent = static_cast<std::uint64_t>(static_cast<int>(exponent) - bias + 1023);
    return std::bit_cast<double>(sign | wide_exponent << kFractionBits | wide_fraction);
  }
  const double magnitude = std::ldexp(static_cast<double>(fraction), 1 - bias - static_cast<int>(format.fraction_bits));
  return sign == 0 ? magnitude : -magnitude;
}

template <class Bits>
void widen_all(std::span<const std::byte> from, Format format, std::span<double> to) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    Bits bits;
    std::memcpy(&bits, from.data() + i * sizeof bits, sizeof bits);
    to[i] = value_of(bits, format);
  }
}

void make_quiet(std::span<double> values) {
  for (double& value : values) {
    if (std::isnan(value)) value = std::bit_cast<double>(std::bit_cast<std::uint64_t>(value) | std::uint64_t{1} << 51);
  }
}

}  // namespace

void widen(DType dtype, std::span<const std::byte> from, std::span<double> to) {
  switch (dtype) {
    case DType::f16:
      return widen_all<std::uint16_t>(from, {5, 10}, to);
    case DType::bf16:
      return widen_all<std::uint16_t>(from, {8, 7}, to);
    case DType::f32:
      return widen_all<std::uint32_t>(from, {8, 23}, to);
    default:
      std::memcpy(to.data(), from.data(), from.size());
      make_quiet(to);
  }
}

}  // namespace cdna::tools
