// Products with parts of tensors and lists of them, and what a caller may hand in: dtypes, strides, bias, a y to add
// to.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "cdna/matmul.hpp"
#include "matmul_reference.hpp"
#include "tensor_file.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kSeed = 0x6F706572;
constexpr std::uint64_t kColCount = 167;
constexpr DType kOperandTypes[] = {DType::f32, DType::f16, DType::bf16};

// Tensors of equal columns in different encodings and blocks.
const Bytes& mixed_file() {
  static const Bytes file = [] {
    TensorFile out;
    Noise noise(kSeed);
    CodebookShape shape;
    shape.cols = kColCount;
    shape.rows = 70;
    shape.outlier_dtype = DType::f32;
    out.add("8 bits", random_planes(shape, kSeed), {16, 1, Codec::raw});
    shape.rows = 33;
    shape.bits = 4;
    shape.group = 32;
    out.add("4 bits", random_planes(shape, kSeed + 1), {5, 2, Codec::raw});
    shape.rows = 21;
    shape.bits = 6;
    shape.group = 64;
    shape.codes_used = 7;
    out.add("6 bits", random_planes(shape, kSeed + 2), {8, 1, Codec::zstd});
    std::vector<double> values(40 * kColCount);
    for (double& value : values) value = noise.gaussian();
    out.add_exact("bf16", DType::bf16, 40, kColCount, cdna::test::bytes_of(DType::bf16, values), {7, 1, Codec::raw});
    out.add_exact("f64", DType::f64, 40, kColCount, cdna::test::bytes_of(DType::f64, values),
                  {3, 1, BlockCoding::byte_planes(8)});
    out.add_exact("no rows", DType::f32, 0, kColCount, {}, {3, 1, Codec::raw});
    return out.finish();
  }();
  return file;
}

const Reader& mixed_reader() {
  static const Reader reader = must(Reader::open(memory_source(mixed_file())));
  return reader;
}

constexpr const char* kNames[] = {"8 bits", "4 bits", "6 bits", "bf16", "f64", "no rows"};

Tensor tensor_of(const char* name) { return mixed_reader().find(name).value(); }

MatmulOptions options_of(Math math, Orientation orientation = Orientation::linear) {
  MatmulOptions options;
  options.math = math;
  options.orientation = orientation;
  return options;
}

std::uint64_t y_cols_of(const Tensor& tensor, Orientation orientation) {
  return orientation == Orientation::linear ? tensor.rows() : tensor.cols();
}

std::uint64_t x_cols_of(const Tensor& tensor, Orientation orientation) {
  return orientation == Orientation::linear ? tensor.cols() : tensor.rows();
}

std::vector<Math> maths_of(const Tensor& tensor, Orientation orientation) {
  std::vector<Math> maths{Math::f32, Math::bf16};
  if (orientation == Orientation::linear && has_int8(tensor)) maths.push_back(Math::int8);
  return maths;
}

// y of a call that has to succeed.
void run(const Tensor& tensor, const StridedMatrix& x, StridedMatrix& y, const MatmulOptions& options) {
  const Result<void> result = matmul(tensor, x.input(), y.output(), options);
  INFO((result ? std::string() : result.error().describe()));
  REQUIRE(result.has_value());
  CHECK(y.is_poison_intact());
}

// Where rows and columns of a matrix lie.
struct Layout {
  const char* name;
  std::int64_t row_stride;
  std::int64_t col_stride;
  std::size_t misalignment;
};

std::vector<Layout> layouts_of(std::uint64_t rows, std::uint64_t cols) {
  const auto m = static_cast<std::int64_t>(rows);
  const auto n = static_cast<std::int64_t>(cols);
  return {{"row-major", n, 1, 0},
          {"row-major, misaligned", n, 1, 1},
          {"rows apart", n + 5, 1, 0},
          {"column-major", 1, m, 0},
          {"column-major, apart, misaligned", 1, m + 3, 3},
          {"every third column", 3 * n + 1, 3, 0},
          {"rows backwards", -(n + 2), 1, 0},
          {"columns backwards", n, -1, 1},
          {"both backwards", -2 * n, -2, 0},
          {"column-major backwards", -1, -(m + 1), 0}};
}

}  // namespace

TEST_CASE(
    "matmul operands: x of any dtype at any address gives the bits of the same values in a row-major f32 matrix") {
  INFO("seed " << kSeed);
  CaseStride stride;
  for (const char* const name : kNames) {
    const Tensor tensor = tensor_of(name);
    for (const Orientation orientation : {Orientation::linear, Orientation::transposed}) {
      const std::uint64_t depth = x_cols_of(tensor, orientation);
      for (const Math math : maths_of(tensor, orientation)) {
        for (const std::uint64_t m : {1U, 3U, 6U}) {
          for (const DType dtype : kOperandTypes) {
            const Operand x = random_operand(m, depth, kSeed + m, dtype);
            const std::vector<float> expected = multiply(tensor, x, options_of(math, orientation));
            for (const Layout& layout : layouts_of(m, depth)) {
              if (!stride.takes_next()) continue;
              INFO(name << ", " << name_of(math) << ", x " << name_of(dtype) << " " << layout.name << ", m " << m);
              StridedMatrix input(dtype, m, depth, layout.row_stride, layout.col_stride, layout.misalignment);
              input.set(x.values);
              StridedMatrix y(DType::f32, m, y_cols_of(tensor, orientation));
              run(tensor, input, y, options_of(math, orientation));
              CHECK(difference(expected, y.values()).empty());
            }
          }
        }
      }
    }
  }
}

TEST_CASE("matmul operands: strides of 0 repeat a row, a column or one element of x") {
  INFO("seed " << kSeed);
  for (const char* const name : {"8 bits", "4 bits", "bf16"}) {
    const Tensor tensor = tensor_of(name);
    for (const Orientation orientation : {Orientation::linear, Orientation::transposed}) {
      const std::uint64_t depth = x_cols_of(tensor, orientation);
      for (const std::uint64_t m : {3U, 7U}) {
        for (const auto& [row_stride, col_stride] : {std::pair<std::int64_t, std::int64_t>{0, 1}, {1, 0}, {0, 0}}) {
          Operand x = random_operand(m, depth, kSeed);
          for (std::uint64_t i = 0; i < x.values.size(); ++i) {
            const std::uint64_t row = row_stride == 0 ? 0 : i / depth;
            const std::uint64_t col = col_stride == 0 ? 0 : i % depth;
            x.values[i] = x.values[row * depth + col];
          }
          StridedMatrix input(DType::f32, m, depth, row_stride, col_stride);
          input.set(x.values);
          StridedMatrix y(DType::f32, m, y_cols_of(tensor, orientation));
          run(tensor, input, y, options_of(Math::f32, orientation));
          INFO(name << ", strides " << row_stride << " and " << col_stride << ", m " << m);
          CHECK(difference(multiply(tensor, x, options_of(Math::f32, orientation)), y.values()).empty());
        }
      }
    }
  }
}

TEST_CASE("matmul operands: y of any dtype at any address has the f32 result, rounded, and nothing beside it changes") {
  INFO("seed " << kSeed);
  CaseStride stride;
  for (const char* const name : kNames) {
    const Tensor tensor = tensor_of(name);
    for (const Orientation orientation : {Orientation::linear, Orientation::transposed}) {
      const std::uint64_t width = y_cols_of(tensor, orientation);
      for (const Math math : maths_of(tensor, orientation)) {
        for (const std::uint64_t m : {1U, 3U, 6U}) {
          const Operand x = random_operand(m, x_cols_of(tensor, orientation), kSeed + m);
          StridedMatrix input(DType::f32, x.rows, x.cols);
          input.set(x.values);
          const std::vector<float> expected = multiply(tensor, x, options_of(math, orientation));
          for (const DType dtype : kOperandTypes) {
            StridedMatrix rounded(dtype, m, width);
            rounded.set(expected);
            for (const Layout& layout : layouts_of(m, width)) {
              if (!stride.takes_next()) continue;
              INFO(name << ", " << name_of(math) << ", y " << name_of(dtype) << " " << layout.name << ", m " << m);
              StridedMatrix y(dtype, m, width, layout.row_stride, layout.col_stride, layout.misalignment);
              run(tensor, input, y, options_of(math, orientation));
              CHECK(difference(rounded.values(), y.values()).empty());
            }
          }
        }
      }
    }
  }
}

TEST_CASE("matmul operands: a bias of any dtype and stride is added to each row, and y is added to where asked") {
  INFO("seed " << kSeed);
  CaseStride stride;
  for (const char* const name : kNames) {
    const Tensor tensor = tensor_of(name);
    const Weights weights = weights_of(mixed_reader(), tensor);
    for (const Orientation orientation : {Orientation::linear, Orientation::transposed}) {
      const std::uint64_t width = y_cols_of(tensor, orientation);
      for (const Math math : maths_of(tensor, orientation)) {
        for (const std::uint64_t m : {1U, 4U, 6U}) {
          const Operand x = random_operand(m, x_cols_of(tensor, orientation), kSeed + m);
          StridedMatrix input(DType::f32, x.rows, x.cols);
          input.set(x.values);
          const Product product = product_of(weights, x, orientation, math);
          for (const DType bias_dtype : {DType::none, DType::f32, DType::f16, DType::bf16}) {
            for (const DType y_dtype : kOperandTypes) {
              for (const bool accumulate : {false, true}) {
                if (!stride.takes_next()) continue;
                const bool has_bias = bias_dtype != DType::none;
                const Operand before = random_operand(m, width, kSeed + 7, y_dtype);
                const Operand bias = random_operand(1, width, kSeed + 8, has_bias ? bias_dtype : DType::f32);
                StridedMatrix bias_row(has_bias ? bias_dtype : DType::f32, 1, width, 0, m == 4 ? -1 : 2, m % 2);
                bias_row.set(bias.values);
                StridedMatrix y(y_dtype, m, width);
                y.set(before.values);
                MatmulOptions options = options_of(math, orientation);
                options.accumulate = accumulate;
                if (has_bias) options.bias = bias_row.input();
                run(tensor, input, y, options);
                // Each addition rounds once, and so does the way into y's dtype.
                Product expected = product;
                const double u = y_dtype == DType::f32 ? 0x1p-24 : y_dtype == DType::f16 ? 0x1p-11 : 0x1p-8;
                const double least = y_dtype == DType::f16 ? 0x1p-25 : 0;
                for (std::uint64_t i = 0; i < expected.values.size(); ++i) {
                  const double added = has_bias ? static_cast<double>(bias.values[i % width]) : 0;
                  const double old = accumulate ? static_cast<double>(before.values[i]) : 0;
                  const double terms = std::abs(expected.values[i]) + std::abs(added) + std::abs(old);
                  expected.values[i] += added + old;
                  expected.bounds[i] = expected.bounds[i] * (1 + 2 * u) + 3 * 0x1p-24 * terms +
                                       u * (std::abs(expected.values[i]) + 3 * 0x1p-24 * terms) + least;
                }
                INFO(name << ", " << name_of(math) << ", bias " << name_of(bias_dtype) << ", y " << name_of(y_dtype)
                          << ", accumulate " << accumulate << ", m " << m);
                CHECK(excess(expected, y.values()) == "");
              }
            }
          }
        }
      }
    }
  }
}

TEST_CASE("matmul operands: rows of a tensor give the bits of these rows in the product with all of them") {
  INFO("seed " << kSeed);
  Random random(kSeed);
  for (const char* const name : {"8 bits", "4 bits", "6 bits", "bf16", "f64"}) {
    const Tensor tensor = tensor_of(name);
    for (const std::uint64_t m : {1U, 4U, 5U, 9U}) {
      const Operand x = random_operand(m, kColCount, kSeed + m);
      const std::vector<float> all = multiply(tensor, x);
      for (int i = 0; i < 12; ++i) {
        const std::uint64_t begin = i == 0 ? 0 : i == 1 ? tensor.rows() : random.below(tensor.rows());
        const std::uint64_t end = begin + random.below(tensor.rows() - begin + 1);
        std::vector<float> expected;
        for (std::uint64_t row = 0; row < m; ++row) {
          for (std::uint64_t j = begin; j < end; ++j) expected.push_back(all[row * tensor.rows() + j]);
        }
        const WeightRows part(tensor, begin, end);
        INFO(name << ", rows " << begin << " to " << end << ", m " << m);
        CHECK(difference(expected, multiply({&part, 1}, x)) == "");
      }
    }
  }
}

TEST_CASE("matmul operands: rows of a tensor, in every Math and orientation, are within the bounds of these rows") {
  INFO("seed " << kSeed);
  Random random(kSeed + 1);
  CaseStride stride;
  for (const char* const name : {"8 bits", "4 bits", "6 bits", "bf16", "f64"}) {
    const Tensor tensor = tensor_of(name);
    const Weights weights = weights_of(mixed_reader(), tensor);
    for (const Orientation orientation : {Orientation::linear, Orientation::transposed}) {
      for (const Math math : maths_of(tensor, orientation)) {
        for (const std::uint64_t m : {1U, 4U, 7U}) {
          for (int i = 0; i < 6; ++i) {
            const std::uint64_t begin = random.below(tensor.rows() + 1);
            const std::uint64_t end = begin + random.below(tensor.rows() - begin + 1);
            if (!stride.takes_next()) continue;
            const Operand x =
                random_operand(m, orientation == Orientation::linear ? kColCount : end - begin, kSeed + m);
            const WeightRows part(tensor, begin, end);
            INFO(name << ", " << name_of(math) << ", rows " << begin << " to " << end << ", m " << m);
            CHECK(excess(product_of(weights, begin, end, x, orientation, math),
                         multiply({&part, 1}, x, options_of(math, orientation))) == "");
          }
        }
      }
    }
  }
}

TEST_CASE("matmul operands: a list of tensors gives the bits of a call for each") {
  INFO("seed " << kSeed);
  std::vector<WeightRows> parts;
  for (const char* const name : kNames) parts.emplace_back(tensor_of(name));
  parts.emplace_back(tensor_of("4 bits"), 3, 3);
  parts.emplace_back(tensor_of("4 bits"), 7, 29);  // The same tensor again.
  parts.emplace_back(tensor_of("bf16"), 39, 40);
  for (const Math math : {Math::f32, Math::int8}) {
    std::vector<WeightRows> some;
    for (const WeightRows& part : parts) {
      if (math == Math::f32 || has_int8(part.tensor)) some.push_back(part);
    }
    for (const std::uint64_t m : {0U, 1U, 2U, 4U, 5U, 17U}) {
      for (const unsigned threads : {1U, 3U}) {
        Workers workers(threads);
        MatmulOptions options = options_of(math);
        options.workers = &workers;
        const Operand x = random_operand(m, kColCount, kSeed + m);
        const std::vector<float> together = multiply(some, x, options);
        std::uint64_t width = 0;
        for (const WeightRows& part : some) width += part.row_end - part.row_begin;
        std::uint64_t at = 0;
        for (const WeightRows& part : some) {
          const std::uint64_t rows = part.row_end - part.row_begin;
          std::vector<float> own;
          for (std::uint64_t i = 0; i < m; ++i) {
            for (std::uint64_t j = 0; j < rows; ++j) own.push_back(together[i * width + at + j]);
          }
          INFO(part.tensor.name() << ", " << name_of(math) << ", m " << m << ", " << threads << " threads");
          CHECK(difference(multiply({&part, 1}, x, options_of(math)), own) == "");
          at += rows;
        }
      }
    }
  }
}

TEST_CASE("matmul operands: a list in bf16 is within the bounds of each tensor") {
  INFO("seed " << kSeed);
  std::vector<WeightRows> parts;
  for (const char* const name : kNames) parts.emplace_back(tensor_of(name));
  for (const std::uint64_t m : {1U, 5U}) {
    const Operand x = random_operand(m, kColCount, kSeed + m);
    const std::vector<float> together = multiply(parts, x, options_of(Math::bf16));
    const std::uint64_t width = together.size() / m;
    std::uint64_t at = 0;
    for (const WeightRows& part : parts) {
      const Product expected = product_of(weights_of(mixed_reader(), part.tensor), x, Orientation::linear, Math::bf16);
      std::vector<float> own;
      for (std::uint64_t i = 0; i < expected.values.size(); ++i)
        own.push_back(together[i / expected.cols * width + at + i % expected.cols]);
      INFO(part.tensor.name() << ", m " << m);
      CHECK(excess(expected, own) == "");
      at += expected.cols;
    }
  }
}

TEST_CASE("matmul operands: an empty sum is 0, the bias, or what y holds") {
  const Bytes bytes = file_of_exact(DType::bf16, 4, 0, {});
  const Reader reader = must(Reader::open(memory_source(bytes)));
  const Tensor tensor = reader.find("w").value();
  const std::vector<float> bias{1, -2, 3, 0.5F};
  for (const std::uint64_t m : {1U, 6U}) {
    for (const bool has_bias : {false, true}) {
      for (const bool accumulate : {false, true}) {
        std::vector<float> y(m * 4, 7);
        MatmulOptions options;
        options.accumulate = accumulate;
        if (has_bias) options.bias = row_major(bias.data(), 1, 4);
        must_do(
            matmul(tensor, row_major(static_cast<const float*>(nullptr), m, 0), row_major(y.data(), m, 4), options));
        for (std::uint64_t i = 0; i < y.size(); ++i)
          CHECK(y[i] == (has_bias ? bias[i % 4] : 0) + (accumulate ? 7.0F : 0.0F));
      }
    }
  }
}
