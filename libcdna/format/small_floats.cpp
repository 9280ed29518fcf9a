// Tables of the small floats, computed from what their fields mean.
#include "libcdna/format/small_floats.hpp"

#include <array>
#include <bit>
#include <cstdint>

namespace cdna {
namespace {

enum class Special : std::uint8_t {
  none,          // Every pattern is a number.
  ieee,          // The highest exponent is infinity and NaN.
  one_nan,       // All ones but the sign is NaN.
  negative_nan,  // 0x80 is NaN, and there is no negative zero.
};

struct Fields {
  std::uint32_t exponent_bits;
  std::uint32_t mantissa_bits;
  std::int32_t bias;
  Special special;
};

constexpr float kNan = std::bit_cast<float>(0x7FC00000U);
constexpr float kInfinity = std::bit_cast<float>(0x7F800000U);

constexpr float power_of_two(std::int32_t exponent) {
  if (exponent >= -126) return std::bit_cast<float>(static_cast<std::uint32_t>(exponent + 127) << 23);
  return std::bit_cast<float>(std::uint32_t{1} << (exponent + 149));
}

constexpr float magnitude_of(const Fields& fields, std::uint32_t pattern) {
  const std::uint32_t exponent = pattern >> fields.mantissa_bits;
  const std::uint32_t mantissa = pattern & ((1U << fields.mantissa_bits) - 1);
  const std::uint32_t exponent_max = (1U << fields.exponent_bits) - 1;
  if (exponent == exponent_max && fields.special == Special::ieee) return mantissa == 0 ? kInfinity : kNan;
  if (exponent == exponent_max && mantissa + 1 == 1U << fields.mantissa_bits && fields.special == Special::one_nan)
    return kNan;
  const auto steps = static_cast<float>(exponent == 0 ? mantissa : mantissa + (1U << fields.mantissa_bits));
  const auto power = static_cast<std::int32_t>(exponent == 0 ? 1 : exponent) - fields.bias -
                     static_cast<std::int32_t>(fields.mantissa_bits);
  return steps * power_of_two(power);
}

constexpr std::array<float, 256> signed_values(const Fields& fields) {
  const std::uint32_t sign = 1U << (fields.exponent_bits + fields.mantissa_bits);
  std::array<float, 256> values{};
  for (std::uint32_t pattern = 0; pattern < sign; ++pattern) {
    const float magnitude = magnitude_of(fields, pattern);
    values[pattern] = magnitude;
    values[pattern | sign] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | 0x80000000U);
  }
  if (fields.special == Special::negative_nan) values[sign] = kNan;
  return values;
}

constexpr std::array<float, 256> powers_of_two() {
  std::array<float, 256> values{};
  for (std::int32_t i = 0; i < 255; ++i) values[static_cast<std::size_t>(i)] = power_of_two(i - 127);
  values[255] = kNan;
  return values;
}

constexpr auto kE4M3 = signed_values({4, 3, 7, Special::one_nan});
constexpr auto kE5M2 = signed_values({5, 2, 15, Special::ieee});
constexpr auto kE8M0 = powers_of_two();
constexpr auto kE4M3Fnuz = signed_values({4, 3, 8, Special::negative_nan});
constexpr auto kE5M2Fnuz = signed_values({5, 2, 16, Special::negative_nan});
constexpr auto kE2M3 = signed_values({2, 3, 1, Special::none});
constexpr auto kE3M2 = signed_values({3, 2, 3, Special::none});
constexpr auto kE2M1 = signed_values({2, 1, 1, Special::none});

}  // namespace

bool is_small_float(DType dtype) { return dtype >= DType::f8_e4m3 && dtype <= DType::f4; }

std::span<const float> small_float_values(DType dtype) {
  static constexpr const std::array<float, 256>* kTables[] = {&kE4M3,     &kE5M2, &kE8M0, &kE4M3Fnuz,
                                                              &kE5M2Fnuz, &kE2M3, &kE3M2, &kE2M1};
  const std::size_t number = static_cast<std::size_t>(dtype) - static_cast<std::size_t>(DType::f8_e4m3);
  return std::span(*kTables[number]).first(std::size_t{1} << bits_of(dtype));
}

}  // namespace cdna
