// Products with tensors that are stored as they are: every float dtype, byte planes; and what is no float.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "cdna/matmul.hpp"
#include "matmul_reference.hpp"
#include "tensor_file.hpp"
#include "tiny_floats.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kSeed = 0x6578616374;

// Random elements, finite and within 2^-20 .. 2^20, packed; rows are whole bytes.
Bytes random_elements(DType dtype, std::uint64_t count, std::uint64_t seed) {
  Noise noise(seed);
  if (is_float(dtype)) {
    std::vector<double> values(count);
    for (double& value : values) value = noise.gaussian();
    return cdna::test::bytes_of(dtype, values);
  }
  const std::uint32_t width = bits_of(dtype);
  Bytes bytes((count * width + 7) / 8);
  for (std::uint64_t i = 0; i < count; ++i) {
    std::uint32_t bits = 0;
    double magnitude = 0;
    do {
      bits = static_cast<std::uint32_t>(noise.below(std::uint64_t{1} << width));
      magnitude = std::abs(value_of_tiny(dtype, bits));
    } while (!(magnitude == 0 || (magnitude >= 0x1p-20 && magnitude <= 0x1p20)));
    for (std::uint32_t k = 0; k < width; ++k) {
      const std::uint64_t bit = i * width + k;
      bytes[bit / 8] |= static_cast<std::byte>((bits >> k & 1U) << (bit % 8));
    }
  }
  return bytes;
}

std::vector<DType> all_floats() {
  std::vector<DType> all;
  for (const DType dtype : kFloatTypes) all.push_back(dtype);
  for (const DType dtype : kTinyFloatTypes) all.push_back(dtype);
  return all;
}

void check(const Bytes& bytes, std::initializer_list<std::uint64_t> row_counts, std::uint64_t seed) {
  const Reader reader = must(Reader::open(memory_source(bytes)));
  const Tensor tensor = reader.find("w").value();
  const Weights weights = weights_of(reader, tensor);
  for (const std::uint64_t m : row_counts) {
    CHECK(faults_of(tensor, weights, m, seed + m) == std::vector<std::string>());
  }
}

}  // namespace

TEST_CASE("matmul exact: every float dtype is within the bounds, for any number of rows of x") {
  INFO("seed " << kSeed);
  CaseStride stride;
  for (const DType dtype : all_floats()) {
    for (const auto& [rows, cols] : {std::pair<std::uint64_t, std::uint64_t>{37, 212}, {5, 1000}, {1, 8}}) {
      if (!stride.takes_next()) continue;
      INFO(name_of(dtype));
      check(file_of_exact(dtype, rows, cols, random_elements(dtype, rows * cols, kSeed), {5, 1, Codec::raw}),
            {0, 1, 2, 3, 4, 5, 8, 17, 64}, kSeed);
    }
  }
}

TEST_CASE("matmul exact: every value of a dtype of at most 8 bits is what its format says") {
  for (const DType dtype : kTinyFloatTypes) {
    const std::uint32_t width = bits_of(dtype);
    const std::uint64_t count = std::uint64_t{1} << width;
    Bytes bytes(count * width / 8);
    for (std::uint64_t i = 0; i < count * width; ++i)
      bytes[i / 8] |= static_cast<std::byte>((i / width >> (i % width) & 1U) << (i % 8));
    const Bytes file = file_of_exact(dtype, 1, count, bytes);
    const Reader reader = must(Reader::open(memory_source(file)));
    // y = x W with x = 1 has the values themselves, but for the sign of zero.
    const Operand one{1, 1, std::vector<float>(1, 1.0F)};
    MatmulOptions options;
    options.orientation = Orientation::transposed;
    for (const Isa isa : available_isas()) {
      options.isa = isa;
      const std::vector<float> y = multiply(reader.find("w").value(), one, options);
      for (std::uint64_t i = 0; i < count; ++i) {
        const auto expected = static_cast<float>(value_of_tiny(dtype, static_cast<std::uint32_t>(i)));
        const bool right = std::isnan(expected) ? std::isnan(y[i]) : y[i] == expected;
        if (!right) FAIL_CHECK(name_of(dtype) << " " << i << " is " << y[i] << " instead of " << expected);
      }
    }
  }
}

TEST_CASE("matmul exact: every number of columns to 130") {
  INFO("seed " << kSeed);
  CaseStride stride;
  for (const DType dtype : all_floats()) {
    const std::uint64_t step = 8 / std::min<std::uint64_t>(8, bits_of(dtype) & ~(bits_of(dtype) - 1));  // Whole bytes.
    for (std::uint64_t cols = step; cols <= 130; cols += step) {
      if (!stride.takes_next()) continue;
      const std::uint64_t rows = 1 + cols % 5;
      INFO(name_of(dtype));
      check(file_of_exact(dtype, rows, cols, random_elements(dtype, rows * cols, kSeed + cols)), {1 + cols % 7},
            kSeed + cols);
    }
  }
}

TEST_CASE("matmul exact: a tensor whose rows are not whole bytes is one row") {
  INFO("seed " << kSeed);
  for (const DType dtype : {DType::f4, DType::f6_e2m3, DType::f6_e3m2}) {
    const Bytes elements = random_elements(dtype, 3 * 37, kSeed);
    const Bytes file = write_file({}, [&](Writer& writer) {
      must(writer.add_exact({"w", dtype, {3, 37}, Role::matrix, Codec::raw}, reader_of(elements)));
    });
    check(file, {1, 6}, kSeed);
  }
}

TEST_CASE("matmul exact: byte planes, zstd and brotli, blocks of one row and of many") {
  INFO("seed " << kSeed);
  CaseStride stride;
  for (const DType dtype : kFloatTypes) {
    for (const std::uint32_t rows_per_block : {1U, 3U, 50U}) {
      if (!stride.takes_next()) continue;
      const std::uint64_t rows = 61;
      const std::uint64_t cols = 515;
      const Bytes elements = random_elements(dtype, rows * cols, kSeed);
      INFO(name_of(dtype) << ", " << rows_per_block << " rows per block");
      check(
          file_of_exact(dtype, rows, cols, elements, {rows_per_block, 1, BlockCoding::byte_planes(bits_of(dtype) / 8)}),
          {1, 5}, kSeed);
      std::vector<double> few(rows * cols);
      Noise noise(kSeed);
      for (double& value : few) value = static_cast<double>(noise.below(5)) - 2;
      for (const Codec codec : {Codec::zstd, Codec::brotli}) {
        check(file_of_exact(dtype, rows, cols, cdna::test::bytes_of(dtype, few), {rows_per_block, 1, codec}), {1, 5},
              kSeed);
      }
    }
  }
}

TEST_CASE("matmul exact: rows of more than 2^20 columns, whose blocks are parts of a row") {
  INFO("seed " << kSeed);
  CaseStride stride;
  constexpr std::uint64_t kColCount = (std::uint64_t{1} << 20) + 78;
  for (const DType dtype : {DType::bf16, DType::f8_e4m3}) {
    if (!stride.takes_next()) continue;
    INFO(name_of(dtype));
    check(file_of_exact(dtype, 2, kColCount, random_elements(dtype, 2 * kColCount, kSeed), {0, 1, Codec::raw}), {1, 5},
          kSeed);
  }
}

TEST_CASE("matmul exact: no rows or no columns give empty sums") {
  for (const DType dtype : {DType::bf16, DType::f32, DType::f8_e5m2}) {
    for (const auto& [rows, cols] : {std::pair<std::uint64_t, std::uint64_t>{0, 5}, {5, 0}, {0, 0}}) {
      INFO(name_of(dtype) << " " << rows << " x " << cols);
      check(file_of_exact(dtype, rows, cols, {}), {0, 1, 5}, kSeed);
    }
  }
}

TEST_CASE("matmul exact: integers, truth values and complex numbers are unsupported") {
  for (const DType dtype : {DType::boolean, DType::u8, DType::i8, DType::u16, DType::i16, DType::u32, DType::i32,
                            DType::u64, DType::i64, DType::c64}) {
    const Bytes file = file_of_exact(dtype, 3, 8, Bytes(24 * bits_of(dtype) / 8));
    const Reader reader = must(Reader::open(memory_source(file)));
    const Tensor tensor = reader.find("w").value();
    const std::vector<float> x(8);
    std::vector<float> y(3);
    INFO(name_of(dtype));
    const auto result = matmul(tensor, row_major(x.data(), 1, 8), row_major(y.data(), 1, 3));
    REQUIRE(!result);
    CHECK(result.error().code == Code::unsupported);
    CHECK(result.error().item == "w");
    const auto plan = describe(tensor, 1);
    REQUIRE(!plan);
    CHECK(plan.error().code == Code::unsupported);
  }
}
