// NaN and infinity in x and in tensors: what f32 arithmetic gives with the values that a reader returns.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "cdna/matmul.hpp"
#include "matmul_reference.hpp"
#include "tensor_file.hpp"
#include "tiny_floats.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kSeed = 0x4E614E;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::uint64_t kXRows[] = {1, 3, 4, 5, 9};

// "" where each y is what its products sum up to: a NaN if there is a NaN among them or infinities of both signs, an
// infinity if there is one, else within the bound.
std::string fault_of(const Product& expected, const std::vector<bool>& may_be_nan, const std::vector<float>& y) {
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double value = expected.values[i];
    if (may_be_nan[i] && std::isnan(y[i])) continue;
    const bool right = std::isnan(value)   ? std::isnan(y[i])
                       : std::isinf(value) ? static_cast<double>(y[i]) == value
                                           : std::abs(static_cast<double>(y[i]) - value) <= expected.bounds[i];
    if (right) continue;
    return "row " + std::to_string(i / expected.cols) + ", column " + std::to_string(i % expected.cols) + " is " +
           std::to_string(y[i]) + " instead of " + std::to_string(value) + " +- " + std::to_string(expected.bounds[i]);
  }
  return "";
}

// Where what is decoded at an outlier is no number, the bound has no decoded part.
Weights bounded(Weights w) {
  for (std::size_t i = 0; i < w.values.size(); ++i) {
    if (!std::isfinite(w.magnitudes[i])) w.magnitudes[i] = std::abs(static_cast<double>(w.values[i]));
  }
  return w;
}

// Where an infinite x meets an outlier: up to 4 rows of x it counts as x * decoded + x * (value - decoded).
std::vector<bool> infinities_at_outliers(const Weights& w, const Operand& x, Orientation orientation) {
  const bool linear = orientation == Orientation::linear;
  const std::uint64_t width = linear ? w.rows : w.cols;
  std::vector<bool> found(x.rows * width);
  for (std::uint64_t i = 0; i < found.size() && x.rows <= 4; ++i) {
    for (std::uint64_t t = 0; t < x.cols; ++t) {
      const std::uint64_t element = linear ? i % width * w.cols + t : t * w.cols + i % width;
      const bool corrected = w.magnitudes[element] != std::abs(static_cast<double>(w.values[element]));
      if (corrected && std::isinf(x.values[i / width * x.cols + t])) found[i] = true;
    }
  }
  return found;
}

void check(const Bytes& bytes, Math math, const std::vector<std::pair<std::uint64_t, float>>& specials = {}) {
  const Reader reader = must(Reader::open(memory_source(bytes)));
  const Tensor tensor = reader.find("w").value();
  const Weights w = bounded(weights_of(reader, tensor));
  for (const Orientation orientation : {Orientation::linear, Orientation::transposed}) {
    const std::uint64_t depth = orientation == Orientation::linear ? w.cols : w.rows;
    for (const std::uint64_t m : kXRows) {
      Operand x = random_operand(m, depth, kSeed + m);
      for (const auto& [place, value] : specials) x.values[place * 31 % x.values.size()] = value;
      const Product expected = product_of(w, x, orientation, math);
      const std::vector<bool> may_be_nan = infinities_at_outliers(w, x, orientation);
      for (const Isa isa : available_isas()) {
        for (const unsigned threads : {1U, 2U}) {
          Workers workers(threads);
          MatmulOptions options;
          options.math = math;
          options.orientation = orientation;
          options.isa = isa;
          options.workers = &workers;
          INFO((orientation == Orientation::linear ? "linear, " : "transposed, ")
               << name_of(math) << ", " << name_of(isa) << ", m " << m << ", " << threads << " threads");
          CHECK(fault_of(expected, may_be_nan, multiply(tensor, x, options)) == "");
        }
      }
    }
  }
}

CodebookPlanes some_planes(std::uint32_t bits, std::uint32_t group, DType group_dtype = DType::f32) {
  CodebookShape shape;
  shape.rows = 19;
  shape.cols = 141;
  shape.bits = bits;
  shape.group = group;
  shape.group_dtype = group_dtype;
  shape.outlier_dtype = DType::f32;
  CodebookPlanes planes = random_planes(shape, kSeed + bits);
  planes.nonfinite = true;
  return planes;
}

}  // namespace

TEST_CASE("matmul nonfinite: outliers that are NaN or infinite reach the sums that they are part of, and no others") {
  INFO("seed " << kSeed);
  CaseStride stride;
  for (const DType dtype : kFloatTypes) {
    for (const std::uint32_t bits : {8U, 4U, 6U}) {
      for (const Math math : {Math::f32, Math::bf16}) {
        if (!stride.takes_next()) continue;
        CodebookPlanes planes = some_planes(bits, bits == 8 ? 0 : 32);
        planes.outlier_dtype = dtype;
        planes.outliers[5] = static_cast<double>(kInfinity);
        planes.outliers[2 * planes.cols + 140] = static_cast<double>(-kInfinity);
        planes.outliers[4 * planes.cols + 77] = static_cast<double>(kInfinity);
        planes.outliers[4 * planes.cols + 78] = static_cast<double>(-kInfinity);
        if (dtype == DType::f32 || dtype == DType::f64) planes.outliers[7 * planes.cols] = static_cast<double>(kNan);
        if (dtype == DType::f64) planes.outliers[9 * planes.cols + 1] = 1e300;  // Infinite as f32.
        INFO(bits << " bits, outliers " << name_of(dtype));
        check(file_of(planes, {5, 1, Codec::raw}), math);
      }
    }
  }
}

TEST_CASE("matmul nonfinite: infinite entries of a codebook") {
  INFO("seed " << kSeed);
  CaseStride stride;
  for (const DType codebook_dtype : {DType::f16, DType::f32}) {
    for (const std::uint32_t bits : {8U, 4U, 5U, 12U}) {
      for (const std::uint32_t group : {0U, 32U}) {
        for (const Math math : {Math::f32, Math::bf16}) {
          if (!stride.takes_next()) continue;
          CodebookPlanes planes = some_planes(bits, group);
          planes.codebook_dtype = codebook_dtype;
          planes.codebook.front() = static_cast<double>(-kInfinity);  // Also what codes past the last column would be.
          planes.codebook.back() = static_cast<double>(kInfinity);
          // In few rows, and some of them under finite outliers.
          const auto last = static_cast<std::uint16_t>(planes.codebook.size() - 1);
          for (std::uint64_t i = 0; i < planes.codes.size(); ++i) {
            std::uint16_t& code = planes.codes[i];
            if (code == 0 || code == last) code = 1;
            if (i / planes.cols == 3 && i % 50 == 0) code = 0;
            if (i / planes.cols == 6 && i % 50 == 0) code = last;
            if (i / planes.cols == 8 && i % 50 == 7) code = i % 100 == 7 ? 0 : last;
            if (i / planes.cols == 11 && i % 50 == 9) code = 0, planes.outliers[i] = 1.5;
          }
          INFO(bits << " bits, " << name_of(codebook_dtype) << ", group " << group);
          check(file_of(planes, {5, 1, Codec::raw}), math);
        }
      }
    }
  }
}

TEST_CASE("matmul nonfinite: scales of rows and groups that are NaN, infinite, or infinite times 0") {
  INFO("seed " << kSeed);
  CaseStride stride;
  for (const std::uint32_t bits : {8U, 4U, 6U, 10U}) {
    for (const Math math : {Math::f32, Math::bf16}) {
      for (const DType group_dtype : {DType::none, DType::f32, DType::f16, DType::u8}) {
        if (!stride.takes_next()) continue;
        CodebookPlanes planes = some_planes(bits, group_dtype == DType::none ? 0 : 64, group_dtype);
        *std::lower_bound(planes.codebook.begin(), planes.codebook.end() - 1, 0.0) = 0;  // Infinity times 0 is NaN.
        planes.row_scales[2] = kInfinity;
        planes.row_scales[5] = kNan;
        planes.row_scales[6] = 0;
        planes.row_scales[8] = -kInfinity;
        for (std::uint64_t i = 2 * planes.cols; i < 3 * planes.cols; ++i) planes.codes[i] = 0;  // No 0 among them.
        planes.outliers[5 * planes.cols + 3] = 2;
        if (group_dtype == DType::u8) {
          for (double& number : planes.group_scales) number = number < 3 ? 3 : number;
          planes.scale_table[0] = kInfinity;
          planes.scale_table[1] = kNan;
          planes.scale_table[2] = 0;
          for (const std::uint64_t row : {1U, 6U, 11U}) planes.group_scales[row * 3 + row % 3] = row == 6 ? 0 : 1;
        } else if (group_dtype == DType::f32) {
          planes.group_scales[1 * 3 + 2] = static_cast<double>(kInfinity);
          planes.group_scales[6 * 3 + 1] = static_cast<double>(-kInfinity);  // Its row's scale is 0.
          planes.group_scales[11 * 3] = static_cast<double>(kNan);
        } else if (group_dtype == DType::f16) {
          planes.group_scales[1 * 3 + 2] = static_cast<double>(kInfinity);
          planes.group_scales[6 * 3 + 1] = static_cast<double>(-kInfinity);
        }
        INFO(bits << " bits, group scales " << name_of(group_dtype));
        check(file_of(planes, {5, 1, Codec::raw}), math);
      }
    }
  }
}

TEST_CASE("matmul nonfinite: exact tensors of every dtype that has NaN or infinity") {
  INFO("seed " << kSeed);
  struct Special {
    DType dtype;
    std::uint64_t bits;
  };
  const Special specials[] = {{DType::f16, 0x7C00},
                              {DType::f16, 0xFC00},
                              {DType::f16, 0x7E01},
                              {DType::bf16, 0x7F80},
                              {DType::bf16, 0xFF80},
                              {DType::bf16, 0x7F81},
                              {DType::f32, 0x7F800000},
                              {DType::f32, 0xFF800000},
                              {DType::f32, 0x7F800001},
                              {DType::f64, 0x7FF0000000000000},
                              {DType::f64, 0xFFF8000000000000},
                              {DType::f64, 0x47F0000000000000},
                              {DType::f8_e4m3, 0x7F},
                              {DType::f8_e4m3, 0xFF},
                              {DType::f8_e5m2, 0x7C},
                              {DType::f8_e5m2, 0xFC},
                              {DType::f8_e5m2, 0x7D},
                              {DType::f8_e8m0, 0xFF},
                              {DType::f8_e4m3fnuz, 0x80},
                              {DType::f8_e5m2fnuz, 0x80}};
  constexpr std::uint64_t kRowCount = 13;
  constexpr std::uint64_t kColCount = 77;
  CaseStride stride;
  for (const Special& special : specials) {
    for (const Math math : {Math::f32, Math::bf16}) {
      if (!stride.takes_next()) continue;
      const std::size_t size = bits_of(special.dtype) / 8;
      Noise noise(kSeed);
      Bytes elements(kRowCount * kColCount * size);
      if (is_float(special.dtype)) {
        std::vector<double> values(kRowCount * kColCount);
        for (double& value : values) value = noise.gaussian();
        elements = cdna::test::bytes_of(special.dtype, values);
      } else {
        const std::uint64_t base = special.dtype == DType::f8_e8m0 ? 120 : 0x30;  // Near 1 in all of them.
        for (std::byte& element : elements) element = static_cast<std::byte>(base + noise.below(16));
      }
      for (const std::uint64_t place : {std::uint64_t{0}, 4 * kColCount + 76, 9 * kColCount + 33})
        std::memcpy(&elements[place * size], &special.bits, size);
      INFO(name_of(special.dtype) << " " << std::hex << special.bits);
      check(file_of_exact(special.dtype, kRowCount, kColCount, elements, {3, 1, Codec::raw}), math);
    }
  }
}

TEST_CASE("matmul nonfinite: NaN and infinity in x, also where they meet 0") {
  INFO("seed " << kSeed);
  CaseStride stride;
  for (const std::uint32_t bits : {8U, 4U, 6U, 1U, 12U}) {
    for (const std::uint32_t group : {0U, 32U}) {
      for (const Math math : {Math::f32, Math::bf16}) {
        for (const float special : {kNan, kInfinity, -kInfinity}) {
          if (!stride.takes_next()) continue;
          CodebookPlanes planes = some_planes(bits, group);
          planes.nonfinite = false;
          planes.outliers[3] = 0;
          INFO(bits << " bits, group " << group << ", " << special);
          check(file_of(planes, {5, 1, Codec::raw}), math, {{0, special}});
          check(file_of(planes, {5, 1, Codec::raw}), math, {{4, special}, {19, 1.0F}, {8, kInfinity}});
        }
      }
    }
  }
}

TEST_CASE("matmul nonfinite: a row of x that is not finite leaves the other rows as they are") {
  INFO("seed " << kSeed);
  for (const std::uint32_t bits : {8U, 4U}) {
    CodebookPlanes planes = some_planes(bits, 32);
    planes.nonfinite = false;
    const Bytes bytes = file_of(planes);
    const Reader reader = must(Reader::open(memory_source(bytes)));
    const Tensor tensor = reader.find("w").value();
    for (const Math math : {Math::f32, Math::bf16, Math::int8}) {
      for (const std::uint64_t m : {4U, 9U}) {
        MatmulOptions options;
        options.math = math;
        Operand x = random_operand(m, 141, kSeed);
        const std::vector<float> before = multiply(tensor, x, options);
        for (std::uint64_t i = 0; i < 141; ++i) x.values[2 * 141 + i] = i % 2 == 0 ? kNan : kInfinity;
        std::vector<float> after = multiply(tensor, x, options);
        for (std::uint64_t j = 0; j < 19; ++j) {
          if (math != Math::int8) CHECK(std::isnan(after[2 * 19 + j]));
          after[2 * 19 + j] = before[2 * 19 + j];
        }
        INFO(bits << " bits, " << name_of(math) << ", m " << m);
        CHECK(difference(before, after) == "");
      }
    }
  }
}

TEST_CASE("matmul nonfinite: an entry beyond bf16 that no code has leaves the sums alone") {
  CodebookPlanes planes;
  planes.rows = 3;
  planes.codebook_dtype = DType::f32;
  planes.codebook = {-3.4028234e38, -1, 0.5, 3.4028234e38};
  planes.bits = 2;
  for (const std::uint64_t cols : {std::uint64_t{5}, std::uint64_t{64}, std::uint64_t{130}}) {
    planes.cols = cols;
    planes.codes.assign(3 * cols, 2);
    planes.row_scales = {1, 2, -4};
    const Bytes bytes = file_of(planes);
    const Reader reader = must(Reader::open(memory_source(bytes)));
    for (const Math math : {Math::f32, Math::bf16}) {
      for (const std::uint64_t m : kXRows) {
        MatmulOptions options;
        options.math = math;
        Operand x = random_operand(m, cols, kSeed);
        std::fill(x.values.begin(), x.values.end(), 1.0F);
        const std::vector<float> y = multiply(reader.find("w").value(), x, options);
        INFO(name_of(math) << ", " << cols << " columns, m " << m);
        for (std::uint64_t i = 0; i < m; ++i) {
          for (std::uint64_t j = 0; j < 3; ++j)
            CHECK(y[3 * i + j] == 0.5F * static_cast<float>(cols) * planes.row_scales[j]);
        }
      }
    }
  }
}

// What the encoder makes of values near the end of f32: a code whose product with its scale is beyond it, and an
// outlier.
TEST_CASE("matmul nonfinite: outliers whose codes decode beyond f32 count as what they are") {
  INFO("seed " << kSeed);
  CodebookPlanes planes = some_planes(8, 0);
  planes.nonfinite = false;
  planes.codebook.back() = 1.25;
  planes.outliers.clear();
  for (const std::uint64_t row : {0U, 7U, 18U}) {
    planes.row_scales[row] = 3e38F;
    for (std::uint64_t col = 0; col < planes.cols; ++col) {
      const std::uint64_t element = row * planes.cols + col;
      const bool is_outlier = col % 5 == 0;
      // Of the others the decoded values stay far below.
      planes.codes[element] = is_outlier ? 255 : static_cast<std::uint16_t>(col % 2);
      if (is_outlier) planes.outliers[element] = col % 2 == 0 ? 3.2e38 : 3.3e38;
    }
  }
  planes.codebook[0] = -0.75;
  planes.codebook[1] = -0.5;
  for (std::size_t code = 2; code + 1 < planes.codebook.size(); ++code)
    planes.codebook[code] = static_cast<double>(code) / 1024;
  const Bytes bytes = file_of(planes, {5, 1, Codec::raw});
  const Reader reader = must(Reader::open(memory_source(bytes)));
  const Tensor tensor = reader.find("w").value();
  Weights w = weights_of(reader, tensor);
  for (std::size_t i = 0; i < w.values.size(); ++i) {
    if (!std::isfinite(w.magnitudes[i])) w.magnitudes[i] = 1.25 * 3e38 + (1.25 * 3e38 - 3.2e38);
  }
  for (const Orientation orientation : {Orientation::linear, Orientation::transposed}) {
    for (const Math math : {Math::f32, Math::bf16}) {
      for (const std::uint64_t m : kXRows) {
        Operand x = random_operand(m, orientation == Orientation::linear ? w.cols : w.rows, kSeed + m);
        for (float& value : x.values) value *= 0x1p-20F;
        const Product expected = product_of(w, x, orientation, math);
        for (const Isa isa : available_isas()) {
          MatmulOptions options;
          options.math = math;
          options.orientation = orientation;
          options.isa = isa;
          INFO((orientation == Orientation::linear ? "linear, " : "transposed, ")
               << name_of(math) << ", " << name_of(isa) << ", m " << m);
          CHECK(excess(expected, multiply(tensor, x, options)) == "");
        }
      }
    }
  }
}
