// The quantisers that presets are compared with, on cases computed by hand.
#include "tools/bench/quantisers.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "libcdna/format/float_bits.hpp"
#include "tools/bench/percentile_kmeans.hpp"

using namespace cdna::tools::bench;

namespace {

Quantised quantise(std::string_view name, const std::vector<float>& values, std::uint64_t cols) {
  for (const Quantiser& quantiser : quantisers())
    if (quantiser.name == name) return quantiser.quantise(values, cols);
  throw std::invalid_argument("no such quantiser");
}

}  // namespace

TEST_CASE("quantisers: every binary16 number and every middle of two rounds as the library's conversion says") {
  for (std::uint32_t bits = 0; bits < 0x7BFF; ++bits) {
    const float low = cdna::f32_of_f16(static_cast<std::uint16_t>(bits));
    const float high = cdna::f32_of_f16(static_cast<std::uint16_t>(bits + 1));
    const float middle = (low + high) / 2;
    REQUIRE(round_to_half(low) == low);
    REQUIRE(round_to_half(-middle) == -(bits % 2 == 0 ? low : high));
    REQUIRE(round_to_half(std::nextafter(middle, 0.0F)) == low);
    REQUIRE(round_to_half(std::nextafter(middle, high)) == high);
  }
  CHECK(round_to_half(1e6F) == 65504);
  CHECK(round_to_half(-1e6F) == -65504);
}

TEST_CASE("quantisers: int8 takes steps of a 127th of the largest magnitude of 32") {
  std::vector<float> values(70, 0);  // One row: groups of 32, 32 and 6.
  values[0] = -127;                  // Scale 1.
  values[1] = 2.4F;
  values[2] = 2.6F;
  values[31] = 100.2F;
  values[32] = 254;  // Scale 2.
  values[33] = 2.9F;
  values[34] = -3.1F;
  const Quantised out = quantise("int8-g32", values, 70);
  std::vector<float> expected(70, 0);
  expected[0] = -127;
  expected[1] = 2;
  expected[2] = 3;
  expected[31] = 100;
  expected[32] = 254;
  expected[33] = 2;
  expected[34] = -4;
  CHECK(out.values == expected);
  CHECK(out.bits_per_weight == Approx(8 + 3 * 16.0 / 70));
  CHECK(quantise("int8-g32", std::vector<float>(64, 1), 64).bits_per_weight == 8.5);
}

TEST_CASE("quantisers: a scale that binary16 rounds down cannot push a code out of its range") {
  const float step = 0x1p-24F;  // Of subnormal binary16 numbers.
  const std::vector<float> values{127 * 2.4F * step, -127 * 2.4F * step, 3 * step};
  const Quantised out = quantise("int8-g32", values, 3);
  CHECK(out.values == std::vector<float>{127 * 2 * step, -127 * 2 * step, 4 * step});
}

TEST_CASE("quantisers: affine int4 takes 15 steps from the least to the largest of 32, in each row anew") {
  const std::vector<float> values{-3, 12, 0.4F, 0.6F,
                                  5,  5,  5,    5};  // Rows {-3, 12, ...}: scale 1; and of one value: scale 0.
  const Quantised out = quantise("int4-affine-g32", values, 4);
  CHECK(out.values == std::vector<float>{-3, 12, 0, 1, 5, 5, 5, 5});
  CHECK(out.bits_per_weight == 4 + 32.0 / 4);
  CHECK(quantise("int4-affine-g32", std::vector<float>(64, 1), 64).bits_per_weight == 5);
}

TEST_CASE("quantisers: NF4 takes the nearest of its 16 numbers, of the largest magnitude of 64") {
  const std::vector<float> values{-2, 2, 0.07F, 0.09F, -1.3F, 1.7F, 1.75F, 0};
  const Quantised out = quantise("nf4-g64", values, 8);
  const float first = 0.07958029955625534F * 2;
  const float second_last = 0.7229568362236023F * 2;
  CHECK(out.values == std::vector<float>{-2, 2, 0, first, -0.6961928009986877F * 2, second_last, 2, 0});
  CHECK(out.bits_per_weight == 4 + 16.0 / 8);
  CHECK(quantise("nf4-g64", std::vector<float>(64, 1), 64).bits_per_weight == 4.25);
}

TEST_CASE("quantisers: values that are all zero stay zero") {
  const std::vector<float> zeros(96, 0);
  for (const Quantiser& quantiser : quantisers()) {
    INFO(quantiser.name);
    CHECK(quantiser.quantise(zeros, 96).values == zeros);
  }
}

TEST_CASE("quantisers: percentiles interpolate between values") {
  const std::vector<float> values{1, 2, 4, 8};
  CHECK(percentile_of(values, 0) == 1);
  CHECK(percentile_of(values, 50) == 3);
  CHECK(percentile_of(values, 75) == 5);
  CHECK(percentile_of(values, 100) == 8);
  CHECK(percentile_of(std::vector<float>{7}, 99.9) == 7);
}

TEST_CASE("quantisers: the original's k-means starts at percentiles and takes Lloyd rounds") {
  // Starts at 0, 2.5, 10. First means: {0, 1} with 0.5, {2, 3} with 2.5, {10, 10} with 10. They stay.
  CHECK(fit_percentile_kmeans(std::vector<float>{0, 1, 2, 3, 10, 10}, 3) == std::vector<float>{0.5F, 2.5F, 10});
  // No more entries than distinct values.
  CHECK(fit_percentile_kmeans(std::vector<float>{1, 2, 3}, 256) == std::vector<float>{1, 2, 3});
  CHECK(fit_percentile_kmeans(std::vector<float>{5, 5, 5}, 4) == std::vector<float>{5});
}

TEST_CASE("quantisers: the original's k-means does not make a move of less than 0.001 of the first range") {
  // Starts at 0 and 1000; the means of {0, 0.5} and {999.5, 1000} are 0.25 away: under 0.001 * 1000.
  CHECK(fit_percentile_kmeans(std::vector<float>{0, 0.5F, 999.5F, 1000}, 2) == std::vector<float>{0, 1000});
  CHECK(fit_percentile_kmeans(std::vector<float>{0, 4, 996, 1000}, 2) == std::vector<float>{2, 998});
}

TEST_CASE("quantisers: an entry that begins equal to another gets values once that one has moved") {
  // Starts at 0, 0 and 10. {0, 0, 0, 3} move the first to 0.75; then the second has the zeros, and the first the 3.
  CHECK(fit_percentile_kmeans(std::vector<float>{0, 0, 0, 3, 10}, 3) == std::vector<float>{0, 3, 10});
}

TEST_CASE("quantisers: the original keeps what is beyond its percentiles, at most 512 values, in binary16") {
  std::vector<float> values(1'000'000);
  std::iota(values.begin(), values.end(), -500'000.0F);
  for (float& value : values) value = value / 1000 + 0.0004F;
  const Quantised out = quantise("kmeans-percentile", values, 1000);
  // 1000 values lie beyond each percentile; the 512 largest magnitudes are 256 of each end.
  std::size_t kept = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const bool end = i < 256 || i >= values.size() - 256;
    kept += end && out.values[i] == round_to_half(values[i]) ? 1U : 0U;
    if (!end) REQUIRE(std::abs(out.values[i] - values[i]) < 1000.0F / 256);
  }
  CHECK(kept == 512);
  CHECK(out.bits_per_weight == Approx(8 + (256 * 32 + 512 * 80) / 1e6));
  // Uniform values suit it: 256 equal steps have 6.02 * 8 dB.
  CHECK(square_sums(values, out.values).snr_db() == Approx(48.2).margin(0.3));
}

TEST_CASE("quantisers: sums of squares are of the source and of its difference") {
  const std::vector<float> source{3, -4};
  const std::vector<float> decoded{3, -4.5F};
  const SquareSums sums = square_sums(source, decoded);
  CHECK(sums.signal == 25);
  CHECK(sums.error == 0.25);
  CHECK(sums.snr_db() == Approx(20));
  CHECK(std::isinf(square_sums(source, source).snr_db()));
}
