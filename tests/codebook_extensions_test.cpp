// What spec/format.md, 13.2, has beyond codes of one element with scales: vectors, groups of 16, group offsets, a
// matrix of low rank, column scales. Written by Writer::add_encoded(), read back, and multiplied with.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cdna/encode.hpp"
#include "cdna/fsck.hpp"
#include "cdna/matmul.hpp"
#include "codebook_file.hpp"
#include "libcdna/encode/planes.hpp"
#include "libcdna/import/decoded_values.hpp"
#include "matmul_reference.hpp"
#include "tensor_file.hpp"

namespace {

using namespace cdna;
using cdna::test::must;
using cdna::test::must_do;
using cdna::test::Noise;
using Bytes = std::vector<std::byte>;

constexpr std::uint64_t kSeed = 20250811;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Shape {
  std::uint64_t rows = 1;
  std::uint64_t cols = 1;
  std::uint32_t bits = 8;
  std::uint32_t vector = 1;
  std::uint32_t group = 0;
  bool factors = false;  // Group scales as they are, not numbers of a table.
  bool halves = false;   // Codebook, group scales and offsets are binary16 numbers.
  bool row_scales = false;
  bool offsets = false;
  DType outliers = DType::none;
  std::uint64_t rank = 0;
  bool column_scales = false;
};

// Random planes, with the codes one by one.
struct Planes {
  Shape shape;
  std::vector<std::uint16_t> code_numbers;  // [rows, cols / vector]
  std::vector<float> codebook, row_scales, column_scales, scale_table, group_factors, group_offsets, left, factors,
      right;
  std::vector<std::uint8_t> group_scales;
  Bytes codes, outlier_values;
  std::vector<std::uint64_t> outlier_positions;
  std::vector<float> outliers;  // As f32.
  EncodedPlanes view;

  Planes(const Shape& of, std::uint64_t seed);
  Planes(const Planes&) = delete;
  std::uint64_t groups() const { return shape.group == 0 ? 0 : (shape.cols + shape.group - 1) / shape.group; }

 private:
  std::vector<float> numbers(Noise& noise, std::uint64_t count, double size, bool halves = false) const;
  void make_codes(Noise& noise);
  void make_outliers(Noise& noise);
  void fill_view();
};

std::vector<float> Planes::numbers(Noise& noise, std::uint64_t count, double size, bool halves) const {
  std::vector<float> made(count);
  for (float& number : made) {
    number = static_cast<float>(noise.gaussian() * size);
    if (number == 0) number = 0.5F;
    if (halves) number = std::round(number * 256) / 256 + 1.0F / 256;  // At most 11 bits where |number| < 8.
  }
  return made;
}

void Planes::make_codes(Noise& noise) {
  const std::uint64_t per_row = shape.cols / shape.vector;
  const std::uint64_t row_bytes = (per_row * shape.bits + 7) / 8;
  code_numbers.resize(shape.rows * per_row);
  codes.resize(shape.rows * row_bytes);
  for (std::uint64_t i = 0; i < code_numbers.size(); ++i) {
    code_numbers[i] = static_cast<std::uint16_t>(noise.below(std::uint64_t{1} << shape.bits));
    for (std::uint32_t bit = 0; bit < shape.bits; ++bit) {
      const std::uint64_t at = i % per_row * shape.bits + bit;
      if ((code_numbers[i] >> bit & 1) != 0) codes[i / per_row * row_bytes + at / 8] |= std::byte{1} << (at % 8);
    }
  }
}

// About one in fifty, and the ends of every block that a writer could make: of each row.
void Planes::make_outliers(Noise& noise) {
  for (std::uint64_t i = 0; i < shape.rows * shape.cols; ++i) {
    const bool end = i % shape.cols == 0 || i % shape.cols == shape.cols - 1;
    if (noise.below(50) == 0 || (end && noise.below(2) == 0)) outlier_positions.push_back(i);
  }
  std::vector<double> values;
  for (std::size_t i = 0; i < outlier_positions.size(); ++i) values.push_back(noise.gaussian() * 10);
  outlier_values = test::bytes_of(shape.outliers, values);
  for (std::size_t i = 0; i < values.size(); ++i)
    outliers.push_back(static_cast<float>(test::float_at(shape.outliers, outlier_values.data(), i)));
}

Planes::Planes(const Shape& of, std::uint64_t seed) : shape(of) {
  Noise noise(seed);
  make_codes(noise);
  codebook = numbers(noise, std::uint64_t{shape.vector} << shape.bits, 1, shape.halves);
  if (shape.vector == 1) std::sort(codebook.begin(), codebook.end());
  if (shape.row_scales) row_scales = numbers(noise, shape.rows, 1);
  if (shape.column_scales) column_scales = numbers(noise, shape.cols, 1);
  const std::uint64_t group_count = shape.rows * groups();
  if (shape.factors) group_factors = numbers(noise, group_count, 0.5, shape.halves);
  if (shape.group != 0 && !shape.factors) {
    scale_table = numbers(noise, 256, 0.5);
    for (std::uint64_t i = 0; i < group_count; ++i) group_scales.push_back(static_cast<std::uint8_t>(noise.below(256)));
  }
  if (shape.offsets) group_offsets = numbers(noise, group_count, 0.5, shape.halves);
  left = numbers(noise, shape.rows * shape.rank, 0.3);
  factors = numbers(noise, shape.rank, 1);
  right = numbers(noise, shape.rank * shape.cols, 0.3);
  if (shape.outliers != DType::none) make_outliers(noise);
  fill_view();
}

void Planes::fill_view() {
  view.bits = shape.bits;
  view.vector = shape.vector;
  view.group = shape.group;
  view.outlier_dtype = shape.outliers;
  view.codebook = codebook;
  view.codes = codes;
  view.row_scales = row_scales;
  view.column_scales = column_scales;
  view.group_scales = group_scales;
  view.scale_table = scale_table;
  view.group_factors = group_factors;
  view.group_offsets = group_offsets;
  view.outlier_values = outlier_values;
  view.outlier_positions = outlier_positions;
  view.low_rank_left = left;
  view.low_rank_factors = factors;
  view.low_rank_right = right;
}

// ---- What the planes decode to, by f64 ----
// Products, sums and quotients of two f32 are rounded once to f32 when they are rounded to f64 first: 53 >= 2 * 24 + 2.

float times(float a, float b) { return static_cast<float>(double{a} * double{b}); }
float plus(float a, float b) { return static_cast<float>(double{a} + double{b}); }

// RN(a * b + c) in one rounding: the product is exact, and what the sum loses goes into its last bit (round to odd).
float fused(float a, float b, float c) {
  const double product = double{a} * double{b};
  const double sum = product + double{c};
  const double back = sum - product;
  const double lost = (product - (sum - back)) + (double{c} - back);
  auto bits = std::bit_cast<std::uint64_t>(sum);
  if (lost != 0 && (bits & 1) == 0) bits += (lost > 0) == (sum > 0) ? 1U : ~std::uint64_t{0};
  return static_cast<float>(std::bit_cast<double>(bits));
}

float value_of(const Planes& planes, std::uint64_t row, std::uint64_t column) {
  const Shape& shape = planes.shape;
  const std::uint64_t code = planes.code_numbers[row * (shape.cols / shape.vector) + column / shape.vector];
  float value = planes.codebook[code * shape.vector + column % shape.vector];
  float scale = shape.row_scales ? planes.row_scales[row] : 1;
  if (shape.group != 0) {
    const std::uint64_t group = row * planes.groups() + column / shape.group;
    const float own = shape.factors ? planes.group_factors[group] : planes.scale_table[planes.group_scales[group]];
    scale = shape.row_scales ? times(own, scale) : own;
    value = times(value, scale);
    if (shape.offsets) value = plus(value, planes.group_offsets[group]);
  } else if (shape.row_scales) {
    value = times(value, scale);
  }
  const std::uint64_t element = row * shape.cols + column;
  const auto outlier = std::lower_bound(planes.outlier_positions.begin(), planes.outlier_positions.end(), element);
  if (outlier != planes.outlier_positions.end() && *outlier == element)
    value = planes.outliers[static_cast<std::size_t>(outlier - planes.outlier_positions.begin())];
  if (shape.rank != 0) {
    float sum = 0;
    for (std::uint64_t t = 0; t < shape.rank; ++t)
      sum = fused(times(planes.left[row * shape.rank + t], planes.factors[t]), planes.right[t * shape.cols + column],
                  sum);
    value = plus(value, sum);
  }
  if (shape.column_scales) value = static_cast<float>(double{value} / double{planes.column_scales[column]});
  return value;
}

std::vector<float> values_of(const Planes& planes) {
  std::vector<float> values;
  for (std::uint64_t row = 0; row < planes.shape.rows; ++row)
    for (std::uint64_t column = 0; column < planes.shape.cols; ++column)
      values.push_back(value_of(planes, row, column));
  return values;
}

// ---- Files ----

TensorSpec spec_of(const Planes& planes, Role role = Role::embedding, Codec codec = Codec::raw) {
  return {"w", DType::f32, {planes.shape.rows, planes.shape.cols}, role, codec};
}

Bytes file_of(const Planes& planes, const TensorSpec& spec, unsigned threads = 1) {
  WriterOptions options;
  options.threads = threads;
  return test::write_file(options, [&](Writer& writer) { must(writer.add_encoded(spec, planes.view)); });
}

Reader open_bytes(const Bytes& file, Trust trust = Trust::zero_copy) {
  OpenOptions options;
  options.trust = trust;
  return must(Reader::open(memory_source(file), options));
}

std::vector<float> read_rows(const Tensor& tensor, std::uint64_t begin, std::uint64_t end) {
  std::vector<float> values((end - begin) * tensor.cols());
  must_do(tensor.read_rows(begin, end, DType::f32, std::as_writable_bytes(std::span(values))));
  return values;
}

FsckReport check_deep(const Bytes& file) {
  FsckOptions options;
  options.level = FsckLevel::deep;
  return fsck(memory_source(file), options);
}

std::vector<float> decoded(const Planes& planes, std::uint64_t begin, std::uint64_t end) {
  std::vector<float> values((end - begin) * planes.shape.cols);
  decode(planes.view, DType::f32, planes.shape.cols, begin, values);
  return values;
}

const Shape kShapes[] = {
    {.rows = 700, .cols = 1000, .bits = 8, .vector = 2, .outliers = DType::f32},
    {.rows = 700, .cols = 1028, .bits = 12, .vector = 4, .row_scales = true, .outliers = DType::f16},
    {.rows = 90, .cols = 1001, .bits = 4, .group = 16, .row_scales = true},
    {.rows = 500, .cols = 1001, .bits = 5, .group = 16, .factors = true, .offsets = true, .outliers = DType::f64},
    {.rows = 41, .cols = 333, .bits = 3, .group = 32, .factors = true, .halves = true, .offsets = true},
    {.rows = 300, .cols = 1001, .bits = 8, .row_scales = true, .outliers = DType::bf16, .rank = 1},
    {.rows = 60, .cols = 257, .bits = 7, .group = 64, .rank = 1024},
    {.rows = 77, .cols = 640, .bits = 8, .column_scales = true},
    {.rows = 33, .cols = 131, .bits = 16, .group = 128, .row_scales = true, .offsets = true, .rank = 3},
    {.rows = 900,
     .cols = 1004,
     .bits = 10,
     .vector = 4,
     .group = 16,
     .factors = true,
     .halves = true,
     .row_scales = true,
     .offsets = true,
     .outliers = DType::f32,
     .rank = 9,
     .column_scales = true},
    {.rows = 1, .cols = 4, .bits = 1, .vector = 4, .group = 16, .offsets = true, .rank = 2, .column_scales = true},
};

std::string name_of(const Shape& shape) {
  return std::to_string(shape.rows) + " x " + std::to_string(shape.cols) + ", " + std::to_string(shape.bits) +
         " bits, vectors of " + std::to_string(shape.vector) + ", groups of " + std::to_string(shape.group) +
         ", rank " + std::to_string(shape.rank) + ", seed " + std::to_string(kSeed);
}

std::optional<PlaneInfo> plane_of_role(const Tensor& tensor, std::uint16_t role) {
  for (std::uint32_t i = 0; i < tensor.plane_count(); ++i)
    if (tensor.plane(i).role == role) return tensor.plane(i);
  return {};
}

// Codes of which only one page can be read: a read of any other is a signal.
class OnePage {
 public:
  explicit OnePage(std::size_t page) : page_(page) {
    void* const begin = mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(begin != MAP_FAILED);
    begin_ = static_cast<std::byte*>(begin);
    REQUIRE(mprotect(begin_ + offset(), page_bytes(), PROT_READ | PROT_WRITE) == 0);
    for (std::size_t i = 0; i < page_bytes(); ++i) begin_[offset() + i] = static_cast<std::byte>(i % 251);
  }
  ~OnePage() { munmap(begin_, kBytes); }
  OnePage(const OnePage&) = delete;
  OnePage& operator=(const OnePage&) = delete;
  static std::size_t page_bytes() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }
  std::size_t offset() const { return page_ * page_bytes(); }
  std::span<const std::byte> codes() const { return {begin_, kBytes}; }

 private:
  static constexpr std::size_t kBytes = std::size_t{1} << 25;
  std::size_t page_;
  std::byte* begin_ = nullptr;
};

}  // namespace

// ---- Values ----

TEST_CASE("codebook extensions: decode() gives the values of the format") {
  for (const Shape& shape : kShapes) {
    INFO(name_of(shape));
    const Planes planes(shape, kSeed);
    const std::vector<float> expected = values_of(planes);
    CHECK(test::difference(decoded(planes, 0, shape.rows), expected).empty());
    const std::uint64_t begin = shape.rows / 3;
    const std::uint64_t end = shape.rows - shape.rows / 4;
    const auto from = expected.begin() + static_cast<std::ptrdiff_t>(begin * shape.cols);
    const auto to = expected.begin() + static_cast<std::ptrdiff_t>(end * shape.cols);
    CHECK(test::difference(decoded(planes, begin, end), {from, to}).empty());
  }
}

TEST_CASE("codebook extensions: elements from within a row to within another are those of the whole") {
  for (const Shape& shape : kShapes) {
    INFO(name_of(shape));
    const Planes planes(shape, kSeed);
    const std::vector<float> expected = values_of(planes);
    const std::uint64_t quarter = shape.rows * shape.cols / 4;
    for (const std::uint64_t begin : {std::uint64_t{0}, quarter, quarter + 1, 2 * quarter + 1}) {
      for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{1}, quarter, quarter + 2}) {
        if (begin + size > expected.size()) continue;
        std::vector<float> values(size);
        decode_elements(planes.view, DType::f32, shape.cols, begin, values);
        const auto from = expected.begin() + static_cast<std::ptrdiff_t>(begin);
        CHECK(test::difference(values, {from, from + static_cast<std::ptrdiff_t>(size)}).empty());
      }
    }
  }
}

TEST_CASE("codebook extensions: a piece of a row of 2^25 columns costs its own columns alone") {
  std::vector<float> codebook(256);
  for (std::size_t i = 0; i < codebook.size(); ++i) codebook[i] = static_cast<float>(i) - 100;
  const OnePage page(300);
  EncodedPlanes planes;
  planes.bits = 8;
  planes.codebook = codebook;
  planes.codes = page.codes();
  // A code is read with the two bytes after it.
  std::vector<float> values(OnePage::page_bytes() - 2);
  read_decoded(planes, DType::f32, page.codes().size(), page.offset() * sizeof(float),
               std::as_writable_bytes(std::span(values)));
  for (std::size_t i = 0; i < values.size(); ++i) REQUIRE(values[i] == static_cast<float>(i % 251) - 100);
}

TEST_CASE("codebook extensions: what is written is read back, whole and in part, with every trust and codec") {
  for (const Shape& shape : kShapes) {
    INFO(name_of(shape));
    const Planes planes(shape, kSeed);
    const std::vector<float> expected = values_of(planes);
    const Bytes raw = file_of(planes, spec_of(planes));
    CHECK(raw == file_of(planes, spec_of(planes), 4));
    for (const Codec codec : {Codec::raw, Codec::zstd}) {
      const Bytes file = codec == Codec::raw ? raw : file_of(planes, spec_of(planes, Role::matrix, codec));
      CHECK(check_deep(file).valid);
      for (const Trust trust : {Trust::zero_copy, Trust::strict}) {
        const Reader reader = open_bytes(file, trust);
        const Tensor tensor = reader.find("w").value();
        CHECK(test::difference(read_rows(tensor, 0, shape.rows), expected).empty());
        for (const std::uint64_t begin : {shape.rows / 3, shape.rows / 2}) {
          const auto from = expected.begin() + static_cast<std::ptrdiff_t>(begin * shape.cols);
          CHECK(test::difference(read_rows(tensor, begin, shape.rows), {from, expected.end()}).empty());
        }
        const auto book = must(tensor.codebook());
        CHECK(std::equal(book.begin(), book.end(), planes.codebook.begin(), planes.codebook.end()));
      }
    }
  }
}

TEST_CASE("codebook extensions: planes are as narrow as their values allow") {
  CAPTURE(kSeed);
  const Planes planes(kShapes[9], kSeed);
  const Bytes file = file_of(planes, spec_of(planes));
  const Reader reader = open_bytes(file);
  const Tensor tensor = reader.find("w").value();
  REQUIRE(tensor.plane(0).block_count > 1);
  CHECK(tensor.plane(0).vector == 4);
  CHECK(tensor.plane(0).row_entries == 251);
  const struct {
    std::uint16_t role;
    DType dtype;
    std::uint64_t row_entries, rows;
  } expected[] = {{3, DType::f16, 4096, 1},  {4, DType::f32, 1, 900},  {5, DType::f16, 63, 900},
                  {8, DType::f16, 63, 900},  {14, DType::f32, 9, 900}, {15, DType::f32, 9, 1},
                  {16, DType::f32, 9036, 1}, {17, DType::f32, 1004, 1}};
  for (const auto& each : expected) {
    INFO("role " << each.role);
    const auto plane = plane_of_role(tensor, each.role);
    REQUIRE(plane);
    CHECK(plane->dtype == each.dtype);
    CHECK(plane->row_entries == each.row_entries);
    CHECK(plane->rows == each.rows);
    CHECK(plane->vector == 1);
  }
  CHECK_FALSE(plane_of_role(tensor, 6));
  Shape finer = kShapes[9];
  finer.halves = false;
  const Planes wide(finer, kSeed);
  const Bytes wide_file = file_of(wide, spec_of(wide));
  const Reader wide_reader = open_bytes(wide_file);
  for (const auto role : {std::uint16_t{3}, std::uint16_t{5}, std::uint16_t{8}})
    CHECK(plane_of_role(wide_reader.find("w").value(), role).value().dtype == DType::f32);
}

TEST_CASE("codebook extensions: rows of millions of columns, whose planes are cut") {
  CAPTURE(kSeed);
  const Shape shape{.rows = 2,
                    .cols = (std::uint64_t{9} << 19) + 4,
                    .bits = 2,
                    .vector = 4,
                    .group = 128,
                    .factors = true,
                    .offsets = true,
                    .outliers = DType::f32,
                    .rank = 2,
                    .column_scales = true};
  const Planes planes(shape, kSeed);
  const Bytes file = file_of(planes, spec_of(planes));
  const Reader reader = open_bytes(file);
  const Tensor tensor = reader.find("w").value();
  CHECK(plane_of_role(tensor, 16)->rows_per_block == 0);
  CHECK(plane_of_role(tensor, 17)->rows_per_block == 0);
  CHECK(test::difference(read_rows(tensor, 0, 2), values_of(planes)).empty());
  CHECK(check_deep(file).valid);
}

TEST_CASE(
    "codebook extensions: outliers that are NaN are copied bit for bit, and are one NaN where something is added") {
  CAPTURE(kSeed);
  Shape shape{.rows = 3, .cols = 8, .bits = 2, .vector = 2, .outliers = DType::f32};
  for (const bool added : {false, true}) {
    shape.rank = added ? 1 : 0;
    Planes planes(shape, kSeed);
    const std::uint32_t patterns[] = {0x7F800001, 0xFFC12345, 0x7FC00000, 0xFF800000};
    planes.outlier_values.resize(sizeof patterns);
    std::memcpy(planes.outlier_values.data(), patterns, sizeof patterns);
    planes.outlier_positions = {0, 7, 8, 23};
    planes.view.outlier_values = planes.outlier_values;
    planes.view.outlier_positions = planes.outlier_positions;
    const Bytes file = file_of(planes, spec_of(planes));
    CHECK(check_deep(file).valid);
    const Reader reader = open_bytes(file);
    CHECK(reader.find("w")->may_be_nonfinite());
    for (const std::vector<float>& values : {decoded(planes, 0, 3), read_rows(*reader.find("w"), 0, 3)}) {
      for (std::size_t i = 0; i < 4; ++i) {
        const bool nan = i != 3;
        CHECK(std::bit_cast<std::uint32_t>(values[planes.outlier_positions[i]]) ==
              (added && nan ? 0x7FC00000U : patterns[i]));
      }
    }
  }
}

TEST_CASE("codebook extensions: arithmetic that yields NaN yields one NaN, and sums overflow to infinity") {
  Planes planes({.rows = 1,
                 .cols = 4,
                 .bits = 1,
                 .group = 16,
                 .factors = true,
                 .offsets = true,
                 .rank = 1,
                 .column_scales = true},
                kSeed);
  const float big = 3e38F;
  planes.codebook = {-big, big};
  planes.codes = {std::byte{0b1010}};
  planes.group_factors = {2};
  planes.group_offsets = {1};
  planes.left = {big};
  planes.factors = {big};
  planes.right = {1, 1, 0, -1};  // infinite, infinite, NaN, -infinite
  planes.column_scales = {-1, -1, 1, 1};
  planes.view.codebook = planes.codebook;
  const Bytes file = file_of(planes, spec_of(planes));
  const Reader reader = open_bytes(file);
  for (const std::vector<float>& values : {decoded(planes, 0, 1), read_rows(*reader.find("w"), 0, 1)}) {
    const std::uint32_t expected[] = {0x7FC00000, 0xFF800000, 0x7FC00000, 0x7FC00000};
    CHECK(std::memcmp(values.data(), expected, sizeof expected) == 0);
  }
}

// ---- Products ----

TEST_CASE("codebook extensions: products are within the bounds of cdna/matmul.hpp") {
  for (const Shape& shape : kShapes) {
    INFO(name_of(shape));
    const Planes planes(shape, kSeed);
    const Bytes file = file_of(planes, spec_of(planes));
    const Reader reader = open_bytes(file);
    const Tensor tensor = reader.find("w").value();
    test::Weights weights;
    weights.rows = shape.rows;
    weights.cols = shape.cols;
    weights.values = values_of(planes);
    for (const float value : weights.values) weights.magnitudes.push_back(std::abs(double{value}));
    for (const std::uint64_t m : {1U, 5U}) {
      for (const std::string& fault : test::faults_of(tensor, weights, m, kSeed)) FAIL_CHECK(fault);
    }
  }
}

TEST_CASE("codebook extensions: products with rows that are cut, whose blocks are pieces of a row") {
  CAPTURE(kSeed);
  const std::string path = CDNA_SOURCE_DIR "/spec/vectors/good/cut_vectors.cdna";
  for (const Trust trust : {Trust::zero_copy, Trust::strict}) {
    OpenOptions options;
    options.trust = trust;
    const Reader reader = must(Reader::open(path, options));
    const Tensor tensor = reader.find("cut").value();
    REQUIRE(tensor.plane(0).block_count == 2);
    test::Weights weights;
    weights.rows = tensor.rows();
    weights.cols = tensor.cols();
    weights.values = read_rows(tensor, 0, tensor.rows());
    for (const float value : weights.values) weights.magnitudes.push_back(std::abs(double{value}));
    for (const std::string& fault : test::faults_of(tensor, weights, 2, kSeed)) FAIL_CHECK(fault);
  }
}

TEST_CASE("codebook extensions: int8 is refused, and describe() says what there is") {
  CAPTURE(kSeed);
  const Planes planes(kShapes[9], kSeed);
  const Bytes file = file_of(planes, spec_of(planes));
  const Reader reader = open_bytes(file);
  MatmulOptions options;
  CHECK(must(describe(*reader.find("w"), 1, options)).kernel ==
        "decoded codes, 10 bits, vectors of 4, groups of 16, group offsets, low rank 9, column scales");
  options.math = Math::int8;
  for (const Shape& shape : kShapes) {
    INFO(name_of(shape));
    const Planes each(shape, kSeed);
    const Bytes each_file = file_of(each, spec_of(each));
    const Reader each_reader = open_bytes(each_file);
    const auto refused = describe(*each_reader.find("w"), 1, options);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Code::unsupported);
  }
}

// ---- What is refused ----

TEST_CASE("codebook extensions: what a reader would refuse is refused before anything is written") {
  CAPTURE(kSeed);
  const Shape shape{.rows = 5,
                    .cols = 48,
                    .bits = 3,
                    .vector = 2,
                    .group = 16,
                    .factors = true,
                    .offsets = true,
                    .outliers = DType::f16,
                    .rank = 2,
                    .column_scales = true};
  struct Case {
    const char* rule;
    const char* message;
    std::function<void(Planes&)> damage;
  };
  const Case cases[] = {
      {"U6", "codes for 3 elements", [](Planes& p) { p.view.vector = 3; }},
      {"U6", "codes for 0 elements", [](Planes& p) { p.view.vector = 0; }},
      {"U6", "codes for 8 elements", [](Planes& p) { p.view.vector = 8; }},
      {"", "codebook entries: 16, where bits, group and shape give 32", [](Planes& p) { p.view.vector = 4; }},
      {"D1", "codebook entry 5 is not finite", [](Planes& p) { p.codebook[5] = kNan; }},
      {"E2", "not both", [](Planes& p) { p.view.scale_table = p.codebook; }},
      {"", "group scales: 14", [](Planes& p) { p.view.group_factors = p.view.group_factors.first(14); }},
      {"", "group scales: 15, where bits, group and shape give 0", [](Planes& p) { p.view.group = 0; }},
      {"", "group offsets: 14", [](Planes& p) { p.view.group_offsets = p.view.group_offsets.first(14); }},
      {"D1", "group scale 3 is not finite", [](Planes& p) { p.group_factors[3] = kInfinity; }},
      {"D1", "group offset 14 is not finite", [](Planes& p) { p.group_offsets[14] = kNan; }},
      {"", "entries of low_rank_left: 9", [](Planes& p) { p.view.low_rank_left = p.view.low_rank_left.first(9); }},
      {"", "entries of low_rank_left: 10", [](Planes& p) { p.view.low_rank_factors = {}; }},
      {"", "entries of low_rank_right: 95", [](Planes& p) { p.view.low_rank_right = p.view.low_rank_right.first(95); }},
      {"D1", "entry of low_rank_left 0 is not finite", [](Planes& p) { p.left[0] = kNan; }},
      {"D1", "entry of low_rank_factors 1 is not finite", [](Planes& p) { p.factors[1] = -kInfinity; }},
      {"D1", "entry of low_rank_right 95 is not finite", [](Planes& p) { p.right[95] = kNan; }},
      {"", "column scales: 47", [](Planes& p) { p.view.column_scales = p.view.column_scales.first(47); }},
      {"D1", "column scale 47 is not finite", [](Planes& p) { p.column_scales[47] = kInfinity; }},
      {"D1", "column scale 1 is 0", [](Planes& p) { p.column_scales[1] = -0.0F; }},
      {"E2", "outliers are F16", [](Planes& p) { p.view.outlier_dtype = DType::i16; }},
      {"", "bytes of outlier values", [](Planes& p) { p.view.outlier_dtype = DType::f32; }},
      {"E6", "is at position 240", [](Planes& p) { p.outlier_positions.back() = 240; }},
  };
  for (const Case& each : cases) {
    INFO(each.message);
    Planes planes(shape, kSeed);
    REQUIRE(planes.outlier_positions.size() > 1);
    each.damage(planes);
    Bytes file;
    Writer writer = must(Writer::create(memory_sink(file)));
    const std::size_t head = file.size();
    const auto result = writer.add_encoded(spec_of(planes), planes.view);
    REQUIRE_FALSE(result);
    INFO(result.error().describe());
    CHECK(file.size() == head);
    CHECK(result.error().code == Code::bad_argument);
    CHECK(result.error().rule == std::string(each.rule));
    CHECK(result.error().message.find(each.message) != std::string::npos);
  }
}

TEST_CASE("codebook extensions: columns that codes do not divide, and ranks that no decoder would hold") {
  CAPTURE(kSeed);
  const Planes odd({.rows = 2, .cols = 6, .bits = 2, .vector = 2}, kSeed);
  EncodedPlanes planes = odd.view;
  planes.vector = 4;
  Bytes file;
  Writer writer = must(Writer::create(memory_sink(file)));
  const auto divided = writer.add_encoded(spec_of(odd), planes);
  REQUIRE_FALSE(divided);
  CHECK(divided.error().rule == std::string("E2"));
  planes = odd.view;
  const std::vector<float> factors(1025, 1);
  planes.low_rank_factors = factors;
  Writer second = must(Writer::create(memory_sink(file)));
  const auto ranked = second.add_encoded(spec_of(odd), planes);
  REQUIRE_FALSE(ranked);
  CHECK(ranked.error().rule == std::string("E7"));
  // The right side would have over 2^26 entries: refused without looking at them.
  const Planes wide({.rows = 1, .cols = std::uint64_t{1} << 18, .bits = 1}, kSeed);
  planes = wide.view;
  planes.low_rank_factors = std::span(factors).first(257);
  Writer third = must(Writer::create(memory_sink(file)));
  const auto large = third.add_encoded(spec_of(wide), planes);
  REQUIRE_FALSE(large);
  CHECK(large.error().rule == std::string("E7"));
}
