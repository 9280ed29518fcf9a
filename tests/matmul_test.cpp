// Products with codebook tensors: every preset, every width of codes, every form of scales and outliers.
#include "cdna/matmul.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "libcdna/file.hpp"
#include "matmul_reference.hpp"
#include "tensor_file.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kSeed = 0x6D61746D756C;
constexpr std::uint64_t kXRows[] = {0, 1, 2, 3, 4, 5, 8, 16, 17, 33, 64, 100};  // m

// One file, read from memory.
struct Opened {
  Bytes bytes;
  Reader reader;
  Tensor tensor;
  Weights weights;

  explicit Opened(Bytes file, const char* name = "w")
      : bytes(std::move(file)),
        reader(must(Reader::open(memory_source(bytes)))),
        tensor(reader.find(name).value()),
        weights(weights_of(reader, tensor)) {}
};

void check(const Opened& file, std::uint64_t m, std::uint64_t seed) {
  CHECK(faults_of(file.tensor, file.weights, m, seed) == std::vector<std::string>());
}

Opened encoded(const std::string& preset, DType dtype, std::uint64_t rows, std::uint64_t cols, std::uint64_t seed) {
  const CodebookOptions options = must(parse_preset(preset)).codebook;
  return Opened(encode_tensor(dtype, {rows, cols}, heavy_values(seed, rows * cols), options).file, "x");
}

}  // namespace

TEST_CASE("matmul: every preset is within the bounds, with outliers of every dtype, for any number of rows of x") {
  INFO("seed " << kSeed);
  CaseStride stride;
  for (const char* const preset : {"cb8", "cb8g64", "cb6g64", "cb5g32", "cb4g32"}) {
    for (const char* const outliers : {",outliers=0", ",outliers=0.001", ",outliers=0.02"}) {
      for (const DType dtype : kFloatTypes) {
        if (!stride.takes_next()) continue;
        INFO(preset << outliers << ", " << name_of(dtype));
        const Opened file = encoded(std::string(preset) + outliers, dtype, 37, 211, kSeed);
        for (const std::uint64_t m : kXRows) check(file, m, kSeed + m);
      }
    }
  }
}

TEST_CASE("matmul: every number of entries, group and class of codebook is within the bounds") {
  INFO("seed " << kSeed);
  CaseStride stride;
  std::vector<std::string> presets;
  for (const char* const k : {"2",  "3",  "4",  "5",  "7",   "8",   "9",   "15",  "16",  "17",  "31", "32",
                              "33", "63", "64", "65", "100", "127", "128", "129", "200", "255", "256"}) {
    for (const char* const group : {"0", "32", "64", "128"})
      presets.push_back(std::string("cb8,k=") + k + ",group=" + group);
  }
  for (const char* const k : {"32", "64", "128", "256"}) presets.push_back(std::string("cb8,class=pwl16,k=") + k);
  for (const char* const k : {"2", "4", "8", "16", "32", "64", "128", "256"})
    presets.push_back(std::string("cb8g64,class=affine,k=") + k);
  for (std::size_t i = 0; i < presets.size(); ++i) {
    if (!stride.takes_next()) continue;
    INFO(presets[i]);
    const Opened file = encoded(presets[i], kFloatTypes[i % 4], 19, 277, kSeed + i);
    for (const std::uint64_t m : {1U, 3U, 7U}) check(file, m, kSeed + i + m);
  }
}

TEST_CASE(
    "matmul: kernels are told of lines of codebooks of class pwl16 unless an entry is subnormal, and of no others") {
  INFO("seed " << kSeed);
  std::size_t on_lines = 0;
  const auto check_lines = [&](const std::string& preset, std::uint64_t seed, bool expected) {
    INFO(preset << ", " << seed);
    const Opened file = encoded(preset, DType::f32, 61, 277, seed);
    const CodebookTables* const tables = must(file_of(file.tensor).tables(file.tensor.number()));
    const bool are_normal = std::all_of(tables->codebook.begin(), tables->codebook.end(),
                                        [](float entry) { return std::abs(entry) >= 0x1p-14F; });
    CHECK((tables->lookup->is_pwl != 0) == (expected && are_normal));
    on_lines += tables->lookup->is_pwl;
  };
  for (std::uint64_t seed = kSeed; seed < kSeed + 8; ++seed) {
    check_lines("cb8,class=pwl16", seed, true);
    check_lines("cb8g64,class=pwl16", seed, true);
    check_lines("cb8", seed, false);
    check_lines("cb8,class=pwl16,k=128", seed, false);
  }
  CHECK(on_lines > 8);
}

TEST_CASE("matmul: every width of codes and group at every number of columns to 130") {
  INFO("seed " << kSeed);
  CaseStride stride;
  std::uint64_t number = 0;
  for (std::uint32_t bits = 1; bits <= 8; ++bits) {
    for (const std::uint32_t group : {0U, 32U, 64U, 128U}) {
      for (std::uint64_t cols = 1; cols <= 130; ++cols) {
        const std::uint64_t seed = kSeed + ++number;
        if (!stride.takes_next()) continue;
        CodebookShape shape;
        shape.rows = 1 + number % 6;
        shape.cols = cols;
        shape.bits = bits;
        shape.group = group;
        shape.outlier_dtype = number % 3 == 0 ? kFloatTypes[number % 4] : DType::none;
        INFO(bits << " bits, group " << group);
        check(Opened(file_of(random_planes(shape, seed))), 1 + number % 9, seed);
      }
    }
  }
}

TEST_CASE("matmul: long rows and many rows, of odd lengths") {
  INFO("seed " << kSeed);
  CaseStride stride;
  const std::pair<std::uint64_t, std::uint64_t> shapes[] = {{1, 100003}, {3, 20001}, {129, 4097}, {2049, 65}, {997, 1}};
  for (const auto& [rows, cols] : shapes) {
    for (const std::uint32_t bits : {1U, 3U, 4U, 5U, 6U, 8U}) {
      if (!stride.takes_next()) continue;
      CodebookShape shape;
      shape.rows = rows;
      shape.cols = cols;
      shape.bits = bits;
      shape.group = bits == 8 ? 0 : bits == 6 ? 64 : 32;
      shape.outlier_dtype = DType::bf16;
      shape.elements_per_outlier = 1000;
      INFO(bits << " bits");
      const Opened file(file_of(random_planes(shape, kSeed + bits), {37, 3, Codec::raw}));
      for (const std::uint64_t m : {2U, 6U}) check(file, m, kSeed + m);
    }
  }
}

TEST_CASE("matmul: codebooks of 1 to 16 bits in F16 and F32, with and without scales") {
  INFO("seed " << kSeed);
  CaseStride stride;
  for (std::uint32_t bits = 1; bits <= 16; ++bits) {
    for (const DType codebook_dtype : {DType::f16, DType::f32}) {
      for (const bool row_scales : {false, true}) {
        for (const std::uint32_t group : {0U, 32U}) {
          if (!stride.takes_next()) continue;
          CodebookShape shape;
          shape.rows = 11;
          shape.cols = 205;
          shape.bits = bits;
          shape.codebook_dtype = codebook_dtype;
          shape.row_scales = row_scales;
          shape.group = group;
          shape.outlier_dtype = DType::f32;
          INFO(bits << " bits, " << name_of(codebook_dtype) << ", row scales " << row_scales << ", group " << group);
          const Opened file(file_of(random_planes(shape, kSeed + bits)));
          for (const std::uint64_t m : {1U, 4U, 5U, 18U}) check(file, m, kSeed + m);
        }
      }
    }
  }
}

TEST_CASE("matmul: group scales of every dtype, with and without row scales") {
  INFO("seed " << kSeed);
  CaseStride stride;
  for (const DType group_dtype : {DType::u8, DType::f16, DType::bf16, DType::f32}) {
    for (const std::uint32_t group : {32U, 64U, 128U}) {
      for (const bool row_scales : {false, true}) {
        for (const std::uint32_t bits : {2U, 4U, 6U, 8U, 11U}) {
          if (!stride.takes_next()) continue;
          CodebookShape shape;
          shape.rows = 9;
          shape.cols = 333;
          shape.bits = bits;
          shape.row_scales = row_scales;
          shape.group = group;
          shape.group_dtype = group_dtype;
          shape.outlier_dtype = DType::f16;
          INFO(bits << " bits, groups of " << group << " in " << name_of(group_dtype) << ", row scales " << row_scales);
          const Opened file(file_of(random_planes(shape, kSeed + group)));
          for (const std::uint64_t m : {1U, 5U}) check(file, m, kSeed + m);
        }
      }
    }
  }
}

TEST_CASE("matmul: outliers everywhere, in a few rows, in the first and the last column") {
  INFO("seed " << kSeed);
  CodebookShape shape;
  shape.rows = 23;
  shape.cols = 150;
  shape.group = 32;
  shape.bits = 4;
  for (const DType dtype : kFloatTypes) {
    shape.outlier_dtype = dtype;
    CodebookPlanes all = random_planes(shape, kSeed);
    Noise noise(kSeed);
    for (std::uint64_t i = 0; i < shape.rows * shape.cols; ++i) all.outliers[i] = noise.gaussian();
    CodebookPlanes edges = random_planes(shape, kSeed);
    edges.outliers.clear();
    for (std::uint64_t row = 0; row < shape.rows; ++row) {
      edges.outliers[row * shape.cols] = noise.gaussian();
      edges.outliers[row * shape.cols + shape.cols - 1] = noise.gaussian();
    }
    CodebookPlanes row = random_planes(shape, kSeed);
    row.outliers.clear();
    for (std::uint64_t col = 0; col < shape.cols; ++col) row.outliers[7 * shape.cols + col] = 100 * noise.gaussian();
    for (const CodebookPlanes& planes : {all, edges, row}) {
      const Opened file(file_of(planes, {4, 2, Codec::raw}));
      for (const std::uint64_t m : {1U, 4U, 9U}) check(file, m, kSeed + m);
    }
  }
}

TEST_CASE("matmul: blocks of one row and of many, raw, zstd and brotli") {
  INFO("seed " << kSeed);
  CaseStride stride;
  for (const Codec codec : {Codec::raw, Codec::zstd, Codec::brotli}) {
    for (const std::uint32_t rows_per_block : {1U, 2U, 7U, 64U, 1000U}) {
      if (!stride.takes_next()) continue;
      CodebookShape shape;
      shape.rows = 131;
      shape.cols = 300;
      shape.group = 64;
      shape.bits = 6;
      shape.codes_used = codec == Codec::raw ? 64 : 9;
      shape.outlier_dtype = DType::bf16;
      const Opened file(file_of(random_planes(shape, kSeed), {rows_per_block, 1 + rows_per_block % 3, codec}));
      INFO(name_of(codec) << ", " << rows_per_block << " rows per block, codecs " << int{file.tensor.plane(0).codecs});
      CHECK((file.tensor.plane(0).codecs >> static_cast<int>(codec) & 1) == 1);
      for (const std::uint64_t m : {1U, 6U}) check(file, m, kSeed + m);
    }
  }
}

TEST_CASE("matmul: rows of more than 2^20 columns, whose blocks are parts of a row") {
  INFO("seed " << kSeed);
  CaseStride stride;
  constexpr std::uint64_t kColCount = (std::uint64_t{1} << 20) + 77;
  for (const std::uint32_t bits : {4U, 8U}) {
    if (!stride.takes_next()) continue;
    CodebookShape shape;
    shape.rows = 2;
    shape.cols = kColCount;
    shape.bits = bits;
    shape.group = bits == 8 ? 0 : 32;
    shape.outlier_dtype = DType::f16;
    shape.elements_per_outlier = 10000;
    CodebookPlanes planes = random_planes(shape, kSeed);
    planes.outliers[kColCount - 1] = 5;  // In the short block of each row.
    planes.outliers[2 * kColCount - 70] = -7;
    INFO(bits << " bits");
    const Opened file(file_of(planes, {0, 1, Codec::raw}));
    REQUIRE(file.tensor.plane(0).block_count == 4);
    check(file, bits == 4 ? 1 : 5, kSeed);
  }
}

TEST_CASE("matmul: int8 stays within its bound where all of its roundings go the same way") {
  // Entries and x lie just beyond the middle of two steps, so that each product is off by nearly half a step of either.
  constexpr std::uint64_t kColCount = 64;
  CodebookPlanes planes;
  planes.rows = 1;
  planes.cols = kColCount;
  planes.codebook_dtype = DType::f32;
  planes.codebook.assign(256, 1.0);
  planes.codebook[0] = 0.51 / 32767;
  planes.codes.assign(kColCount, 0);
  const Opened file(file_of(planes));
  Operand x{1, kColCount, std::vector<float>(kColCount, 0.51F)};
  x.values[17] = 127;
  for (const Isa isa : available_isas()) {
    MatmulOptions options;
    options.math = Math::int8;
    options.isa = isa;
    CHECK(excess(product_of(file.weights, x, Orientation::linear, Math::int8), multiply(file.tensor, x, options))
              .empty());
  }
}
