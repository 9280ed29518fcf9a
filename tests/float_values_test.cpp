// The tools' own widening of floats, against the library's.
#include "tools/float_values.hpp"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>

#include "libcdna/format/float_bits.hpp"
#include "sample_file.hpp"

namespace {

template <class T>
double widened(cdna::DType dtype, T bits) {
  double value = 0;
  cdna::tools::widen(dtype, std::as_bytes(std::span(&bits, 1)), std::span(&value, 1));
  return value;
}

constexpr std::uint64_t kQuiet = std::uint64_t{1} << 51;

void check_same(double value, double expected) {
  if (std::isnan(expected)) {
    // A conversion in hardware keeps sign and payload and sets the quiet bit: so do both.
    CHECK(std::bit_cast<std::uint64_t>(value) == (std::bit_cast<std::uint64_t>(expected) | kQuiet));
  } else {
    CHECK(std::bit_cast<std::uint64_t>(value) == std::bit_cast<std::uint64_t>(expected));
  }
}

}  // namespace

TEST_CASE("float values: every f16 and bf16 widens to its value, subnormals and NaNs too") {
  for (std::uint32_t i = 0; i <= 0xFFFF; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    check_same(widened(cdna::DType::f16, bits), static_cast<double>(cdna::f32_of_f16(bits)));
    check_same(widened(cdna::DType::bf16, bits), static_cast<double>(cdna::f32_of_bf16(bits)));
  }
}

TEST_CASE("float values: f32 widens as the processor does it") {
  constexpr std::uint64_t kSeed = 7;
  INFO("seed " << kSeed);
  cdna::test::Random random(kSeed);
  for (int i = 0; i < 100000; ++i) {
    const auto bits = static_cast<std::uint32_t>(random.next());
    const std::uint32_t subnormal = bits & 0x807FFFFF;
    check_same(widened(cdna::DType::f32, bits), static_cast<double>(std::bit_cast<float>(bits)));
    check_same(widened(cdna::DType::f32, subnormal), static_cast<double>(std::bit_cast<float>(subnormal)));
  }
}

TEST_CASE("float values: f64 keeps its bits, and NaNs become quiet") {
  for (const double value : {0.0, -0.0, 1e308, 5e-324, -std::numeric_limits<double>::infinity()})
    check_same(widened(cdna::DType::f64, value), value);
  const std::uint64_t signalling = 0xFFF0000000000005U;
  CHECK(std::bit_cast<std::uint64_t>(widened(cdna::DType::f64, signalling)) == (signalling | kQuiet));
}
