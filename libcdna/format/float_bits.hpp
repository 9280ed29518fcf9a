// Conversions between float formats, exact to the bit and the same on every machine (spec/format.md, 13.2).
#pragma once

#include <bit>
#include <cstdint>

namespace cdna {

inline constexpr std::uint32_t kProductNan = 0x7FC00000U;  // What a multiplication that yields NaN yields.

inline float f32_of_bf16(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

inline float f32_of_f16(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16;
  const std::uint32_t exponent = bits >> 10 & 31U;
  const std::uint32_t mantissa = bits & 1023U;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000U | mantissa << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  // Subnormal: mantissa * 2^-24, exact in f32.
  const float value = static_cast<float>(mantissa) * 0x1p-24F;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
}

// RN to bf16; a NaN keeps its sign and upper payload bits and becomes quiet.
inline std::uint16_t bf16_of_f32(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>(bits >> 16 | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16);
}

// RN to binary16, subnormals kept, overflow to infinity; NaN as above.
inline std::uint16_t f16_of_f32(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<std::uint16_t>(sign | 0x7E00U | (magnitude >> 13 & 0x3FFU));
  if (magnitude >= 0x477FF000U)
    return static_cast<std::uint16_t>(sign | 0x7C00U);  // 65520 and above round to infinity.
  if (magnitude >= 0x38800000U) {                       // Normal: 2^-14 and above.
    const std::uint32_t rounded = magnitude + 0xFFFU + (magnitude >> 13 & 1U);
    return static_cast<std::uint16_t>(sign | (rounded - 0x38000000U) >> 13);
  }
  // Subnormal: adding 0.5 puts the unit of 2^-24 at the end of the f32 mantissa, where the addition rounds.
  const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
  return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000U));
}

// RN(f64); a NaN keeps its sign and upper 22 payload bits and becomes quiet.
inline float f32_of_f64(double value) {
  const auto bits = std::bit_cast<std::uint64_t>(value);
  if ((bits & 0x7FFFFFFFFFFFFFFFULL) > 0x7FF0000000000000ULL) {
    const auto sign = static_cast<std::uint32_t>(bits >> 32 & 0x80000000ULL);
    return std::bit_cast<float>(sign | 0x7FC00000U | static_cast<std::uint32_t>(bits >> 29 & 0x3FFFFFULL));
  }
  return static_cast<float>(value);
}

// RN to binary16 in one rounding, as above. An f32 that keeps in its last bit whether anything was cut off (rounding to
// odd) has the two bits more than binary16 that make the second rounding right (Boldo and Melquiond 2008).
inline std::uint16_t f16_of_f64(double value) {
  const float nearest = f32_of_f64(value);
  const double difference = value - static_cast<double>(nearest);
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  if (difference == 0 || difference != difference || (bits & 1U) != 0) return f16_of_f32(nearest);
  bits += (difference > 0) == (bits >> 31 == 0) ? 1U : ~0U;
  return f16_of_f32(std::bit_cast<float>(bits));
}

}  // namespace cdna
