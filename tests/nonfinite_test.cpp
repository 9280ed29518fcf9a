// NaN, infinity and what is beyond f32: refused with their place, or kept bit for bit.
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "case_stride.hpp"
#include "cdna/encode.hpp"
#include "cdna/reader.hpp"
#include "codebook_file.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kSeed = 0x7F800001;

// With and without groups and outliers: all ways through the encoder.
std::vector<CodebookOptions> ways(Nonfinite nonfinite) {
  std::vector<CodebookOptions> all;
  for (const char* const text :
       {"cb8", "cb8,outliers=0", "cb8g64", "cb8g64,outliers=0.001", "cb4g32", "cb4g32,outliers=0.01", "cb8,class=pwl16",
        "cb6g64,class=affine", "cb4g32,k=3,group=0"}) {
    all.push_back(must(parse_preset(text)).codebook);
    all.back().nonfinite = nonfinite;
  }
  return all;
}

// A value that is not a finite f32, as it is stored.
struct Special {
  DType dtype;
  std::uint64_t bits;
  bool is_nonfinite;  // False: F64 beyond f32.
};

constexpr Special kSpecials[] = {
    {DType::f32, 0x7F800000, true},  // Infinities.
    {DType::f32, 0xFF800000, true},
    {DType::f32, 0x7FC00000, true},  // Quiet NaNs with and without payload, of both signs.
    {DType::f32, 0xFFC12345, true},
    {DType::f32, 0x7F800001, true},  // Signalling ones.
    {DType::f32, 0xFFABCDEF, true},
    {DType::f16, 0x7C00, true},
    {DType::f16, 0xFC00, true},
    {DType::f16, 0x7E01, true},
    {DType::f16, 0xFD55, true},
    {DType::bf16, 0x7F80, true},
    {DType::bf16, 0xFF80, true},
    {DType::bf16, 0x7FC1, true},
    {DType::bf16, 0xFF95, true},
    {DType::f64, 0x7FF0000000000000, true},
    {DType::f64, 0xFFF0000000000000, true},
    {DType::f64, 0x7FF8000000000001, true},
    {DType::f64, 0xFFF123456789ABCD, true},
    {DType::f64, 0x7FEFFFFFFFFFFFFF, false},  // The largest F64.
    {DType::f64, 0x47F0000000000000, false},  // 2^128.
    {DType::f64, 0xC7EFFFFFF0000000, false},  // Halfway between the largest f32 and 2^128: rounds to infinity.
};

void put(Bytes& source, const Special& special, std::uint64_t element) {
  const std::size_t size = bits_of(special.dtype) / 8;
  std::memcpy(&source[element * size], &special.bits, size);
}

Error error_of_writer(DType dtype, const std::vector<std::uint64_t>& shape, const Bytes& source,
                      const CodebookOptions& options, unsigned threads) {
  Bytes file;
  Writer writer = must(Writer::create(memory_sink(file), {4096, threads, nullptr}));
  const auto result = writer.add_codebook({"x", dtype, shape, Role::matrix, Codec::raw}, options, reader_of(source));
  REQUIRE(!result);
  return result.error();
}

void check_refused(const Error& error, std::uint64_t row, std::uint64_t column) {
  CHECK(error.code == Code::bad_argument);
  const std::string place = "row " + std::to_string(row) + ", column " + std::to_string(column) + " is NaN";
  INFO(error.message);
  CHECK(error.message.starts_with(place));
}

}  // namespace

TEST_CASE(
    "nonfinite: any is refused with its row and column, by writer and encode(), on every way through the encoder") {
  INFO("seed " << kSeed);
  Random random(kSeed);
  CaseStride stride;
  constexpr std::uint64_t kRows = 37;
  constexpr std::uint64_t kCols = 211;
  for (const Special& special : kSpecials) {
    const Bytes good = cdna::test::bytes_of(special.dtype, heavy_values(kSeed, kRows * kCols));
    for (const CodebookOptions& options : ways(Nonfinite::refuse)) {
      const std::uint64_t places[] = {0, kCols - 1, (kRows - 1) * kCols, kRows * kCols - 1,
                                      random.below(kRows * kCols)};
      for (const std::uint64_t place : places) {
        if (!stride.takes_next()) continue;
        Bytes source = good;
        put(source, special, place);
        INFO(name_of(special.dtype) << " " << std::hex << special.bits << std::dec << " at " << place << ", k "
                                    << options.entries << ", group " << options.group);
        check_refused(error_of_writer(special.dtype, {kRows, kCols}, source, options, 1), place / kCols, place % kCols);
        const auto encoded = encode(special.dtype, kRows, kCols, source, options);
        REQUIRE(!encoded);
        check_refused(encoded.error(), place / kCols, place % kCols);
      }
    }
  }
}

TEST_CASE("nonfinite: one outside the sample of groups is refused all the same") {
  // 3001 rows of 1000: the sample takes 1048 of them, at distances of 2, so odd rows are not in it.
  constexpr std::uint64_t kRows = 3001;
  constexpr std::uint64_t kCols = 1000;
  const Bytes good = cdna::test::bytes_of(DType::bf16, heavy_values(kSeed, kRows * kCols));
  CaseStride stride;
  for (const CodebookOptions& options : ways(Nonfinite::refuse)) {
    if (options.entries < 16) continue;  // A way of its own only in the fit.
    for (const std::uint64_t row : {std::uint64_t{1}, std::uint64_t{2999}, std::uint64_t{3000}}) {
      if (!stride.takes_next()) continue;
      Bytes source = good;
      put(source, {DType::bf16, 0x7FC0, true}, row * kCols + 500);
      INFO("row " << row << ", k " << options.entries << ", group " << options.group);
      check_refused(error_of_writer(DType::bf16, {kRows, kCols}, source, options, 2), row, 500);
      const auto encoded = encode(DType::bf16, kRows, kCols, source, options, 2);
      REQUIRE(!encoded);
      check_refused(encoded.error(), row, 500);
    }
  }
}

TEST_CASE("nonfinite: of several, the same one is refused with any number of threads") {
  constexpr std::uint64_t kRows = 9001;
  constexpr std::uint64_t kCols = 1000;
  const Bytes good = cdna::test::bytes_of(DType::bf16, heavy_values(kSeed, kRows * kCols));
  Bytes source = good;
  CaseStride stride;
  for (const std::uint64_t row :
       std::vector<std::uint64_t>{3301, 3303, 5555, 7777, 8999})  // None of them in the sample.
    put(source, {DType::bf16, 0x7FC0, true}, row * kCols + row % 7);
  for (const CodebookOptions& options : ways(Nonfinite::refuse)) {
    if (options.entries < 16) continue;
    for (int i = 0; i < 5; ++i) {
      if (!stride.takes_next()) continue;
      INFO("k " << options.entries << ", group " << options.group);
      check_refused(error_of_writer(DType::bf16, {kRows, kCols}, source, options, i == 0 ? 1 : 4), 3301, 3301 % 7);
    }
  }
}

TEST_CASE("nonfinite: with `exact` each is kept bit for bit, and all other promises hold") {
  INFO("seed " << kSeed);
  Random random(kSeed);
  CaseStride stride;
  constexpr std::uint64_t kRows = 23;
  constexpr std::uint64_t kCols = 133;
  for (const CodebookOptions& options : ways(Nonfinite::exact)) {
    for (const Special& special : kSpecials) {
      if (!stride.takes_next()) continue;
      Bytes source = cdna::test::bytes_of(special.dtype, heavy_values(kSeed, kRows * kCols));
      for (const std::uint64_t place : {std::uint64_t{0}, kRows * kCols - 1, random.below(kRows * kCols)})
        put(source, special, place);
      const EncodedTensor encoded = encode_tensor(special.dtype, {kRows, kCols}, source, options);
      INFO(name_of(special.dtype) << " " << std::hex << special.bits << std::dec << ", k " << options.entries
                                  << ", group " << options.group);
      for (const std::string& broken : broken_promises(encoded)) FAIL_CHECK(broken);
      const RawTensor raw(encoded.file, encoded.cols, special.dtype);
      CHECK(raw.optional_features() == (special.is_nonfinite ? 1 : 0));
      const auto matrix = must(encode(special.dtype, kRows, kCols, source, options));
      CHECK(matrix.outlier_positions.size() == raw.outliers().size());
    }
  }
}

TEST_CASE("nonfinite: with `exact`, tensors and rows of nothing else are kept, and a finite one has no feature") {
  CaseStride stride;
  for (const CodebookOptions& options : ways(Nonfinite::exact)) {
    for (const Special& special : kSpecials) {
      if (!stride.takes_next()) continue;
      Bytes source(7 * 65 * bits_of(special.dtype) / 8);
      for (std::uint64_t i = 0; i < 7 * 65; ++i) put(source, special, i);
      const EncodedTensor whole = encode_tensor(special.dtype, {7, 65}, source, options);
      INFO(name_of(special.dtype) << " " << std::hex << special.bits << std::dec << ", k " << options.entries
                                  << ", group " << options.group);
      for (const std::string& broken : broken_promises(whole)) FAIL_CHECK(broken);
      CHECK(whole.written.statistics.outlier_count == 7 * 65);
      CHECK(whole.written.statistics.sum_squares == 0);
      // One row of it only.
      Bytes mixed = cdna::test::bytes_of(special.dtype, heavy_values(kSeed, 7 * 65));
      for (std::uint64_t i = 3 * 65; i < 4 * 65; ++i) put(mixed, special, i);
      for (const std::string& broken : broken_promises(encode_tensor(special.dtype, {7, 65}, mixed, options)))
        FAIL_CHECK(broken);
    }
    for (const DType dtype : kFloatTypes) {
      if (!stride.takes_next()) continue;
      const EncodedTensor finite = encode_tensor(dtype, {20, 70}, heavy_values(kSeed, 20 * 70), options);
      CHECK(RawTensor(finite.file, 70, dtype).optional_features() == 0);
      CodebookOptions refusing = options;
      refusing.nonfinite = Nonfinite::refuse;  // For finite values they are the same.
      CHECK((encode_tensor(dtype, {20, 70}, heavy_values(kSeed, 20 * 70), refusing).file == finite.file));
    }
  }
}
