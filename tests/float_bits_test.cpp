// Conversions between the four float types, against arithmetic on f64.
#include "libcdna/format/float_bits.hpp"

#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <limits>

#include "random.hpp"
#include "small_floats.hpp"

using namespace cdna;
using cdna::test::bf16_of;
using cdna::test::f16_of;
using cdna::test::Random;
using cdna::test::value_of_bf16;
using cdna::test::value_of_f16;

namespace {

constexpr std::uint64_t kSeed = 20240608;

}  // namespace

TEST_CASE("float_bits: every f16 and bf16 widens to its value, NaNs with all their bits") {
  std::uint64_t wrong = 0;
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const auto half = std::bit_cast<std::uint32_t>(f32_of_f16(bits));
    const auto brain = std::bit_cast<std::uint32_t>(f32_of_bf16(bits));
    wrong += brain != i << 16;
    if ((bits & 0x7FFFU) > 0x7C00U) {
      wrong += half != ((i & 0x8000U) << 16 | 0x7F800000U | (i & 0x3FFU) << 13);
    } else {
      wrong += half != std::bit_cast<std::uint32_t>(static_cast<float>(value_of_f16(bits)));
    }
    if ((bits & 0x7FFFU) <= 0x7F80U)
      wrong += brain != std::bit_cast<std::uint32_t>(static_cast<float>(value_of_bf16(bits)));
  }
  CHECK(wrong == 0);
}

TEST_CASE("float_bits: every f16 and bf16 survives widening and narrowing, NaNs made quiet") {
  std::uint64_t wrong = 0;
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    wrong += f16_of_f32(f32_of_f16(bits)) != ((bits & 0x7FFFU) > 0x7C00U ? bits | 0x200U : bits);
    wrong += bf16_of_f32(f32_of_bf16(bits)) != ((bits & 0x7FFFU) > 0x7F80U ? bits | 0x40U : bits);
  }
  CHECK(wrong == 0);
}

TEST_CASE("float_bits: narrowing rounds to nearest, ties to even, at every boundary between two values") {
  std::uint64_t wrong = 0;
  std::uint64_t checked = 0;
  const auto check = [&](std::uint32_t bits) {
    for (const std::uint32_t sign : {0U, 0x80000000U}) {
      const auto value = std::bit_cast<float>(bits | sign);
      wrong += f16_of_f32(value) != f16_of(static_cast<double>(value));
      wrong += bf16_of_f32(value) != bf16_of(static_cast<double>(value));
      ++checked;
    }
  };
  const auto check_around = [&](std::uint32_t bits) {
    for (std::uint32_t i = std::max(bits, 2U) - 2; i <= bits + 2 && i <= 0x7F800000U; ++i) check(i);
  };
  for (std::uint32_t i = 0; i < 0x7C00; ++i) {  // 0x7C00 as a successor: what would be 65536.
    const double low = value_of_f16(static_cast<std::uint16_t>(i));
    const double high = i + 1 == 0x7C00 ? 65536 : value_of_f16(static_cast<std::uint16_t>(i + 1));
    check_around(std::bit_cast<std::uint32_t>(static_cast<float>(low)));
    check_around(std::bit_cast<std::uint32_t>(static_cast<float>((low + high) / 2)));
  }
  for (std::uint32_t i = 0; i <= 0x7F80; ++i) {
    check_around(i << 16);
    if (i < 0x7F80) check_around(i << 16 | 0x8000U);
  }
  INFO("seed " << kSeed);
  Random random(kSeed);
  for (int i = 0; i < 2'000'000; ++i) check(static_cast<std::uint32_t>(random.below(0x7F800001U)));
  CHECK(wrong == 0);
  CHECK(checked > 4'500'000);
}

TEST_CASE("float_bits: f64 narrows to f16 in one rounding, next to every value and every boundary between two") {
  std::uint64_t wrong = 0;
  const auto check_around = [&](double value) {
    for (const double each : {value, std::nextafter(value, 0.0), std::nextafter(value, 1e6), value * (1 + 0x1p-30),
                              value * (1 - 0x1p-30)}) {
      wrong += f16_of_f64(each) != f16_of(each);
      wrong += f16_of_f64(-each) != f16_of(-each);
    }
  };
  for (std::uint32_t i = 0; i < 0x7C00; ++i) {
    const double low = value_of_f16(static_cast<std::uint16_t>(i));
    const double high = i + 1 == 0x7C00 ? 65536 : value_of_f16(static_cast<std::uint16_t>(i + 1));
    check_around(low);
    check_around((low + high) / 2);
  }
  CHECK(wrong == 0);
  // What two roundings would make of it: the f32 nearest to this is the tie between 1 and the next f16.
  CHECK(f16_of_f64(1 + 0x1p-11 + 0x1p-40) == 0x3C01);
  CHECK(f16_of_f64(1 + 0x1p-11 - 0x1p-40) == 0x3C00);
  CHECK(f16_of_f64(1e300) == 0x7C00);
  CHECK(f16_of_f64(-std::numeric_limits<double>::infinity()) == 0xFC00);
  CHECK(f16_of_f64(-std::numeric_limits<double>::denorm_min()) == 0x8000);
  CHECK((f16_of_f64(std::numeric_limits<double>::quiet_NaN()) & 0x7E00U) == 0x7E00U);
}

TEST_CASE("float_bits: a narrowed NaN keeps its sign and upper payload bits, and is quiet") {
  INFO("seed " << kSeed);
  Random random(kSeed);
  std::uint64_t wrong = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    const auto noise = random.next();
    const auto sign = static_cast<std::uint32_t>(noise & 0x80000000U);
    const auto payload = std::max(1U, static_cast<std::uint32_t>(noise) & 0x7FFFFFU);
    const auto nan = std::bit_cast<float>(sign | 0x7F800000U | payload);
    wrong += f16_of_f32(nan) != (sign >> 16 | 0x7E00U | payload >> 13);
    wrong += bf16_of_f32(nan) != (sign >> 16 | 0x7FC0U | payload >> 16);
    const std::uint64_t wide_payload = std::max<std::uint64_t>(1, noise & 0xFFFFFFFFFFFFFU);
    const auto wide = std::bit_cast<double>(std::uint64_t{sign} << 32 | 0x7FF0000000000000U | wide_payload);
    const auto narrow = std::bit_cast<std::uint32_t>(f32_of_f64(wide));
    wrong += narrow != (sign | 0x7FC00000U | static_cast<std::uint32_t>(wide_payload >> 29 & 0x3FFFFFU));
  }
  CHECK(wrong == 0);
}
