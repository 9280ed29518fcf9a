// Every option of the codebook encoder on every sort of tensor: all promises of codebook_file.hpp hold.
#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
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

constexpr std::uint64_t kSeed = 20261121;

CodebookOptions options_of(const std::string& preset) { return must(parse_preset(preset)).codebook; }

std::string text_of(const CodebookOptions& options) { return name_of(Preset{Preset::Method::codebook, options}); }

void check_promises(const EncodedTensor& encoded) {
  const std::string options = text_of(encoded.options);
  for (const std::string& broken : broken_promises(encoded)) FAIL_CHECK(options << ": " << broken);
}

// What presets and other options there are to try wherever all of them would be too many.
std::vector<CodebookOptions> various_options() {
  std::vector<CodebookOptions> all;
  for (const char* const text :
       {"cb8", "cb8g64", "cb6g64", "cb5g32", "cb4g32", "cb8,class=pwl16", "cb5g32,class=pwl16,group=128",
        "cb8,class=affine,outliers=0", "cb4g32,class=affine", "cb6g64,outliers=0.01", "cb4g32,k=2",
        "cb4g32,k=3,group=0", "cb4g32,k=15,outliers=0.5", "cb8,k=2,outliers=0"})
    all.push_back(options_of(text));
  return all;
}

// The sorts of values, each a scale apart from what its float type can hold.
enum class Sort { heavy, zeros, zero_rows, constant, constant_rows, few_values, subnormal, huge, giant, negative };
constexpr Sort kSorts[] = {Sort::heavy,      Sort::zeros,     Sort::zero_rows, Sort::constant, Sort::constant_rows,
                           Sort::few_values, Sort::subnormal, Sort::huge,      Sort::giant,    Sort::negative};

double least_normal(DType dtype) { return dtype == DType::f16 ? 0x1p-14 : 0x1p-126; }
double largest(DType dtype) {
  if (dtype == DType::f16) return 65504;
  if (dtype == DType::bf16) return value_of_bf16(0x7F7F);
  return static_cast<double>(std::numeric_limits<float>::max());
}

double value_of(Sort sort, DType dtype, std::uint64_t row, std::uint64_t place, Noise& noise) {
  switch (sort) {
    case Sort::heavy:
      return noise.student(3) * 0.02;
    case Sort::zeros:
      return place % 2 == 0 ? 0.0 : -0.0;
    case Sort::zero_rows:
      return row % 3 == 0 ? 0.0 : noise.student(4);
    case Sort::constant:
      return -0.37;
    case Sort::constant_rows:
      return std::ldexp(row % 2 == 0 ? 1.5 : -1.25, static_cast<int>(row % 20) - 10);
    case Sort::few_values:
      return 0.25 * static_cast<double>(noise.below(5)) - 0.25;
    case Sort::subnormal:
      return least_normal(dtype) * (2 * noise.unit() - 1);
    case Sort::huge:
      return noise.below(10) == 0 ? largest(dtype) : largest(dtype) * (2 * noise.unit() - 1);
    case Sort::giant:
      return place == 77 ? largest(dtype) : noise.gaussian();
    case Sort::negative:
      return -1 - std::abs(noise.gaussian());
  }
  return 0;
}

std::vector<double> values_of(Sort sort, DType dtype, std::uint64_t count, std::uint64_t cols) {
  Noise noise(kSeed);
  std::vector<double> values(count);
  for (std::uint64_t i = 0; i < count; ++i) values[i] = value_of(sort, dtype, i / cols, i, noise);
  return values;
}

std::uint64_t product(const std::vector<std::uint64_t>& shape) {
  std::uint64_t count = 1;
  for (const std::uint64_t dim : shape) count *= dim;
  return count;
}

}  // namespace

TEST_CASE("codebook options: every k, group, share of outliers and class keeps all promises") {
  INFO("seed " << kSeed);
  std::size_t tried = 0;
  CaseStride stride;
  const auto check = [&](const CodebookOptions& options) {
    const DType dtype = kFloatTypes[tried++ % 4];
    if (!stride.takes_next()) return;
    check_promises(encode_tensor(dtype, {29, 333}, heavy_values(kSeed + tried, 29 * 333), options));
  };
  for (const std::uint32_t group : {0U, 32U, 64U, 128U}) {
    for (const double outliers : {0.0, 0.001, 0.5, 1.0}) {
      for (const std::uint32_t k : {2U, 3U, 15U, 16U, 33U, 50U, 64U, 128U, 200U, 256U})
        check({k, group, outliers, CodebookClass::free, Nonfinite::refuse});
      for (const std::uint32_t k : {32U, 64U, 128U, 256U}) check({k, group, outliers, CodebookClass::pwl16, {}});
      for (const std::uint32_t k : {2U, 4U, 8U, 16U, 256U}) check({k, group, outliers, CodebookClass::affine, {}});
    }
  }
  CHECK(tried == 4 * 4 * 19);
}

TEST_CASE("codebook options: every sort of value in every float type keeps all promises") {
  CaseStride stride;
  for (const Sort sort : kSorts) {
    for (const DType dtype : kFloatTypes) {
      INFO("sort " << static_cast<int>(sort) << ", " << name_of(dtype) << ", seed " << kSeed);
      for (const CodebookOptions& options : various_options()) {
        if (!stride.takes_next()) continue;
        check_promises(encode_tensor(dtype, {24, 100}, values_of(sort, dtype, 2400, 100), options));
      }
    }
  }
}

TEST_CASE("codebook options: one row, one column, short last groups and odd shapes keep all promises") {
  const std::vector<std::vector<std::uint64_t>> shapes{
      {}, {1}, {9}, {1, 1}, {1, 31}, {1, 5000}, {5, 1}, {300, 1}, {3, 31}, {7, 33}, {2, 4097}, {3, 8200}, {2, 3, 5, 7}};
  std::size_t tried = 0;
  for (const auto& shape : shapes) {
    for (const CodebookOptions& options : various_options()) {
      const DType dtype = kFloatTypes[tried++ % 4];
      INFO("rank " << shape.size() << ", " << product(shape) << " elements, " << name_of(dtype));
      check_promises(encode_tensor(dtype, shape, heavy_values(kSeed + tried, product(shape)), options));
    }
  }
}

TEST_CASE("codebook options: tensors of several blocks keep all promises") {
  // 1 MiB of codes per block; the side planes have blocks of their own. The second has one row in a block.
  const std::uint64_t blocks = CaseStride().passes_over() ? 2 : 3;
  const auto check = [&](DType dtype, std::uint64_t rows, std::uint64_t cols, const char* preset) {
    check_promises(encode_tensor(dtype, {rows, cols}, heavy_values(kSeed, rows * cols), options_of(preset)));
  };
  check(DType::bf16, blocks * 1000, 1000, "cb4g32");
  check(DType::f32, blocks, 1'200'000, "cb8g64,outliers=0.001");
}

TEST_CASE("codebook options: groups keep their error where rows and groups have very different sizes") {
  INFO("seed " << kSeed);
  Noise noise(kSeed);
  std::vector<double> values(256 * 512);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const int row = static_cast<int>(i / 512 % 60) - 30;  // 2^-30 to 2^29: each row is an outlier to the others.
    values[i] = noise.gaussian() * std::ldexp(1.0, row);
  }
  for (const auto& [preset, least_db] :
       {std::pair{"cb8g64", 44.0}, {"cb6g64", 31.5}, {"cb5g32", 26.5}, {"cb4g32", 20.5}}) {
    const EncodedTensor encoded = encode_tensor(DType::f32, {256, 512}, values, options_of(preset));
    check_promises(encoded);
    WARN(preset << ", rows 2^-30 to 2^29: " << snr_db(encoded) << " dB");
    CHECK(snr_db(encoded) >= least_db);
    // Small rows too, not only those that the sum sees.
    const std::vector<float> decoded = read_floats(encoded);
    double squares = 0;
    double errors = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double scale = std::ldexp(1.0, 30 - static_cast<int>(i / 512 % 60));
      const double error = (encoded.original(i) - static_cast<double>(decoded[i])) * scale;
      squares += values[i] * scale * values[i] * scale;
      errors += error * error;
    }
    CHECK(10 * std::log10(squares / errors) >= least_db - 0.5);
  }
}

TEST_CASE(
    "codebook options: a group scale above 1 times a row's largest magnitude near the end of f32 is kept finite") {
  // Two entries that lie far below 1, and a row of values that all equal its largest magnitude: the best scale is the
  // largest, and that times the row's scale is beyond f32, while entries times the row's scale are not.
  INFO("seed " << kSeed);
  Noise noise(kSeed);
  for (const std::uint32_t group : {32U, 64U, 128U}) {
    for (const double huge : {3.4e38, 2.9e38, 1e38}) {
      std::vector<double> values(64 * 128);
      for (double& value : values) value = std::clamp(noise.gaussian() * 1.5e38, -3.3e38, 3.3e38);
      for (std::size_t i = 0; i < 128; ++i) values[i] = huge;
      check_promises(encode_tensor(DType::f32, {64, 128}, values, {2, group, 0, CodebookClass::free, {}}));
      check_promises(encode_tensor(DType::f32, {64, 128}, values, {3, group, 0, CodebookClass::free, {}}));
    }
  }
}

TEST_CASE("codebook options: a row of the largest f32 has a finite scale, whatever factor of its rms would be best") {
  // Entries of the other rows are at 0.8 of the rms: a factor above 1 is best, and beyond f32.
  INFO("seed " << kSeed);
  for (const DType dtype : {DType::bf16, DType::f32, DType::f64}) {
    for (const std::uint32_t k : {2U, 3U, 15U, 256U}) {
      Noise noise(kSeed);
      std::vector<double> values(64 * 128);
      for (double& value : values) value = noise.gaussian();
      for (std::size_t i = 0; i < 128; ++i) values[i] = i % 2 == 0 ? largest(dtype) : -largest(dtype);
      INFO(name_of(dtype));
      check_promises(encode_tensor(dtype, {64, 128}, values, {k, 0, 0, CodebookClass::free, {}}));
    }
  }
}

TEST_CASE("codebook options: the statistics of values whose powers underflow are finite numbers") {
  for (const double size : {1e-50, 1e-78, 1e-100, 1e-160, 1e-300}) {
    INFO("values of about " << size << ", seed " << kSeed);
    Noise noise(kSeed);
    std::vector<double> values(20 * 50);
    for (double& value : values) value = size * noise.gaussian();
    for (const char* const preset : {"cb8", "cb4g32"})
      check_promises(encode_tensor(DType::f64, {20, 50}, values, options_of(preset)));
  }
}

TEST_CASE("codebook options: fewer distinct values than entries are all kept, but for rounding to binary16") {
  for (const DType dtype : kFloatTypes) {
    for (const char* const preset : {"cb8", "cb8g64", "cb6g64", "cb5g32", "cb4g32", "cb8,outliers=0"}) {
      INFO(name_of(dtype) << " " << preset);
      // Five values, the rows alike but for their order, so that their scales are equal.
      std::vector<double> values(30 * 320);
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.25 * static_cast<double>((i + i / 320) % 5) - 0.25;
      const EncodedTensor encoded = encode_tensor(dtype, {30, 320}, values, options_of(preset));
      check_promises(encoded);
      const std::vector<float> decoded = read_floats(encoded);
      std::uint64_t wrong = 0;
      // Entries are rounded to 11 bits; samples of groups besides stand in bins of 2.5 * 2^-16.
      for (std::size_t i = 0; i < values.size(); ++i)
        wrong += !(std::abs(static_cast<double>(decoded[i]) - values[i]) <= 0x1p-11 * 0.75);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("codebook options: a block that would hold more than 16 MiB of outliers is refused") {
  // 8 Mi codes of one bit fill a block; half of them as outliers take 24 MiB.
  const Bytes source = cdna::test::bytes_of(DType::bf16, heavy_values(kSeed, 8400 * 1000));
  Bytes file;
  Writer writer = must(Writer::create(memory_sink(file), {4096, 2, nullptr}));
  const TensorSpec spec{"x", DType::bf16, {8400, 1000}, Role::matrix, Codec::raw};
  const auto refused = writer.add_codebook(spec, {2, 0, 0.5, CodebookClass::free, {}}, reader_of(source));
  REQUIRE(!refused);
  CHECK(refused.error().code == Code::limit);
  CHECK(std::string(refused.error().rule) == "X3");
}

// ---- The same from encode() ----

namespace {

template <class T>
bool has_bytes(const RawTensor& raw, RawRole role, const std::vector<T>& values) {
  if (raw.find(role) == nullptr) return values.empty();
  return std::memcmp(raw.bytes_of(role), values.data(), values.size() * sizeof(T)) == 0;
}

void check_same_planes(const EncodedTensor& encoded, const EncodedMatrix& matrix) {
  const RawTensor raw(encoded.file, encoded.cols, encoded.dtype);
  const std::uint64_t count = encoded.count();
  CHECK(matrix.dtype == encoded.dtype);
  CHECK((matrix.rows == encoded.rows() && matrix.cols == encoded.cols && matrix.bits == raw.bits()));
  CHECK(matrix.group == encoded.options.group);
  REQUIRE(matrix.codes.size() == encoded.rows() * ((encoded.cols * raw.bits() + 7) / 8));
  CHECK(has_bytes(raw, kRawCodes, matrix.codes));
  REQUIRE(matrix.codebook.size() == std::size_t{1} << raw.bits());
  for (std::size_t i = 0; i < matrix.codebook.size(); ++i)
    CHECK(static_cast<double>(matrix.codebook[i]) == raw.entry(i));
  REQUIRE(matrix.row_scales.size() == encoded.rows());
  CHECK(has_bytes(raw, kRawRowScale, matrix.row_scales));
  const std::size_t groups = encoded.options.group == 0 ? 0 : raw.find(kRawGroupScale)->row_entries;
  REQUIRE(matrix.group_scales.size() == encoded.rows() * groups);
  CHECK(has_bytes(raw, kRawGroupScale, matrix.group_scales));
  REQUIRE(matrix.scale_table.size() == (groups == 0 ? 0 : 256));
  CHECK(has_bytes(raw, kRawScaleTable, matrix.scale_table));
  const std::vector<RawOutlier> outliers = raw.outliers();
  const std::size_t size = bits_of(encoded.dtype) / 8;
  REQUIRE(matrix.outlier_positions.size() == outliers.size());
  REQUIRE(matrix.outlier_values.size() == outliers.size() * size);
  std::uint64_t different = 0;
  for (std::size_t i = 0; i < outliers.size(); ++i) {
    different += matrix.outlier_positions[i] != outliers[i].element;
    different += std::memcmp(&matrix.outlier_values[i * size], outliers[i].value, size) != 0;
  }
  CHECK(different == 0);
  const TensorStatistics& a = matrix.statistics;
  const TensorStatistics& b = encoded.written.statistics;
  CHECK((a.sum_squares == b.sum_squares && a.sum_squared_error == b.sum_squared_error));
  CHECK((a.max_abs_error == b.max_abs_error && a.outlier_count == b.outlier_count));
  CHECK((a.excess_kurtosis == b.excess_kurtosis && a.code_entropy_bits == b.code_entropy_bits));
  std::vector<float> decoded(count);
  decode(matrix, decoded);
  CHECK(std::memcmp(decoded.data(), raw.decode(count).data(), count * 4) == 0);
  const std::uint64_t planes = matrix.codes.size() + 2 * matrix.codebook.size() + 4 * encoded.rows() +
                               matrix.group_scales.size() + 4 * matrix.scale_table.size() +
                               outliers.size() * (size + 4);
  CHECK(matrix.payload_bytes() == planes);
  CHECK(matrix.bits_per_weight() == 8 * static_cast<double>(planes) / static_cast<double>(count));
}

}  // namespace

TEST_CASE("codebook options: encode() gives the planes that a writer writes, with any number of threads") {
  INFO("seed " << kSeed);
  std::size_t tried = 0;
  CaseStride stride;
  for (const auto& [rows, cols] : {std::pair{2600, 1000}, {1, 77}, {40, 8193}}) {
    for (const CodebookOptions& options : various_options()) {
      const DType dtype = kFloatTypes[tried++ % 4];
      if (rows > 1000 && tried % 3 != 0) continue;  // Of several blocks: some of each option's kind.
      if (!stride.takes_next()) continue;
      INFO(rows << " x " << cols << " " << name_of(dtype) << " " << text_of(options));
      const auto row_count = static_cast<std::uint64_t>(rows);
      const auto col_count = static_cast<std::uint64_t>(cols);
      const Bytes source = cdna::test::bytes_of(dtype, heavy_values(kSeed + tried, row_count * col_count));
      const EncodedTensor encoded = encode_tensor(dtype, {row_count, col_count}, source, options);
      const unsigned threads = tried % 2 == 0 ? 1 : 3;
      check_same_planes(encoded, must(encode(dtype, row_count, col_count, source, options, threads)));
    }
  }
}
