// Planes that exist already, written by Writer::add_encoded(): what comes back, and what is refused.
#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "cdna/encode.hpp"
#include "cdna/fsck.hpp"
#include "cdna/matmul.hpp"
#include "codebook_file.hpp"
#include "matmul_reference.hpp"
#include "tensor_file.hpp"

namespace {

using namespace cdna;
using cdna::test::bytes_of;
using cdna::test::CodebookPlanes;
using cdna::test::must;
using cdna::test::must_do;
using cdna::test::Noise;
using cdna::test::random_planes;
using Bytes = std::vector<std::byte>;

constexpr std::uint64_t kSeed = 20240917;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Reader open_bytes(const Bytes& file) {
  OpenOptions options;
  options.trust = Trust::zero_copy;
  return must(Reader::open(memory_source(file), options));
}

Bytes file_of_planes(const TensorSpec& spec, const EncodedPlanes& planes, unsigned threads = 1) {
  WriterOptions options;
  options.threads = threads;
  return test::write_file(options, [&](Writer& writer) { must(writer.add_encoded(spec, planes)); });
}

Error refusal(const TensorSpec& spec, const EncodedPlanes& planes) {
  Bytes file;
  Writer writer = must(Writer::create(memory_sink(file)));
  const std::size_t head = file.size();
  const auto result = writer.add_encoded(spec, planes);
  REQUIRE_FALSE(result);
  CHECK(file.size() == head);  // Nothing of it has been written.
  CHECK(result.error().item == spec.name);
  return result.error();
}

FsckReport check_deep(const Bytes& file) {
  FsckOptions options;
  options.level = FsckLevel::deep;
  return fsck(memory_source(file), options);
}

std::vector<float> values_of(const Tensor& tensor) {
  std::vector<float> values(tensor.element_count());
  must_do(tensor.read_rows(0, tensor.rows(), DType::f32, std::as_writable_bytes(std::span(values))));
  return values;
}

std::vector<float> product_with(const Tensor& tensor, const std::vector<float>& x, std::uint64_t m) {
  std::vector<float> y(m * tensor.rows());
  const auto columns = static_cast<std::int64_t>(tensor.cols());
  must_do(matmul(tensor, {x.data(), DType::f32, m, tensor.cols(), columns},
                 {y.data(), DType::f32, m, tensor.rows(), static_cast<std::int64_t>(tensor.rows())}));
  return y;
}

// A plane as the file has it: all that a decoder can see.
struct StoredPlane {
  std::uint16_t role;
  DType dtype;
  std::uint32_t bits, scope, layout, group, block_count, rows_per_block;
  std::uint64_t row_entries;
  Bytes bytes;
  bool operator==(const StoredPlane&) const = default;
};

std::vector<StoredPlane> planes_in(const Bytes& file, const Item& item) {
  std::vector<StoredPlane> planes;
  for (std::uint32_t i = 0; i < item.plane_count(); ++i) {
    const PlaneInfo info = item.plane(i);
    const auto at = file.begin() + static_cast<std::ptrdiff_t>(info.offset);
    planes.push_back({info.role, info.dtype, info.bits, info.scope, info.layout, info.group, info.block_count,
                      info.rows_per_block, info.row_entries,
                      Bytes(at, at + static_cast<std::ptrdiff_t>(info.stored_bytes))});
  }
  return planes;
}

std::uint64_t product_of_dims(const std::vector<std::uint64_t>& dims) {
  std::uint64_t product = 1;
  for (const std::uint64_t dim : dims) product *= dim;
  return product;
}

// Codes as bit strings, one at a time (spec/format.md, 8.2).
Bytes pack(const std::vector<std::uint16_t>& codes, std::uint64_t cols, std::uint32_t bits) {
  const std::uint64_t row_bytes = (cols * bits + 7) / 8;
  Bytes packed(codes.size() / cols * row_bytes);
  for (std::uint64_t i = 0; i < codes.size(); ++i) {
    for (std::uint32_t bit = 0; bit < bits; ++bit) {
      const std::uint64_t at = i % cols * bits + bit;
      if ((codes[i] >> bit & 1) != 0) packed[i / cols * row_bytes + at / 8] |= std::byte{1} << (at % 8);
    }
  }
  return packed;
}

// Planes of the tests' own kind as add_encoded() takes them.
struct Owned {
  CodebookPlanes from;
  std::vector<float> codebook;
  Bytes codes;
  std::vector<std::uint8_t> group_scales;
  Bytes outlier_values;
  std::vector<std::uint64_t> outlier_positions;
  EncodedPlanes planes;

  explicit Owned(const CodebookPlanes& given) : from(given), codes(pack(from.codes, from.cols, from.bits)) {
    const Bytes entries = bytes_of(from.codebook_dtype, from.codebook);
    for (std::uint64_t i = 0; i < from.codebook.size(); ++i)
      codebook.push_back(static_cast<float>(test::float_at(from.codebook_dtype, entries.data(), i)));
    for (const double number : from.group_scales) group_scales.push_back(static_cast<std::uint8_t>(number));
    std::vector<double> outliers;
    for (const auto& [position, value] : from.outliers) {
      outlier_positions.push_back(position);
      outliers.push_back(value);
    }
    outlier_values = bytes_of(from.dtype, outliers);
    planes.bits = from.bits;
    planes.group = from.group;
    planes.codebook = codebook;
    planes.codes = codes;
    planes.row_scales = from.row_scales;
    planes.group_scales = group_scales;
    planes.scale_table = from.scale_table;
    planes.outlier_values = outlier_values;
    planes.outlier_positions = outlier_positions;
  }
  Owned(const Owned&) = delete;
};

constexpr std::uint16_t kPwl = 0x8012;
constexpr std::uint16_t kAffine = 0x8013;

constexpr std::uint16_t kStatistics = 0x8014;

bool is_claim(const StoredPlane& plane) { return plane.role == kPwl || plane.role == kAffine; }
bool is_statistics(const StoredPlane& plane) { return plane.role == kStatistics; }

}  // namespace

// ---- The same as add_codebook() ----

TEST_CASE("encoded planes: of encode() they give the planes, values and products that add_codebook() gives") {
  struct Case {
    const char* preset;
    DType dtype;
    std::vector<std::uint64_t> shape;
    Role role;
  };
  const Case cases[] = {
      {"cb8", DType::bf16, {1500, 1024}, Role::matrix},         // Two blocks.
      {"cb8,class=pwl16", DType::f32, {40, 96}, Role::matrix},  // A claim.
      {"cb4g32,k=16,class=affine", DType::f16, {33, 130}, Role::matrix},
      {"cb8g64", DType::f64, {900, 1000}, Role::embedding},                // Four blocks; a short last group.
      {"cb6g64,outliers=0.01", DType::f32, {400, 1001}, Role::embedding},  // Padding bits; outliers in two blocks.
      {"cb5g32,outliers=0", DType::f32, {64, 128}, Role::matrix},
      {"cb4g32,k=15", DType::f32, {3, 5, 128}, Role::matrix},
      {"cb8,k=2", DType::f32, {7}, Role::vector},
  };
  for (const Case& each : cases) {
    INFO(each.preset << ", seed " << kSeed);
    const CodebookOptions options = must(parse_preset(each.preset)).codebook;
    const TensorSpec spec{"w", each.dtype, each.shape, each.role, Codec::raw};
    const Bytes source = bytes_of(each.dtype, test::heavy_values(kSeed, product_of_dims(each.shape)));
    const Bytes direct = test::write_file(
        {}, [&](Writer& writer) { must(writer.add_codebook(spec, options, test::reader_of(source))); });
    const Reader expected_reader = open_bytes(direct);
    const Tensor expected = expected_reader.find("w").value();
    const EncodedMatrix matrix = must(encode(each.dtype, expected.rows(), expected.cols(), source, options));
    const Bytes file = file_of_planes(spec, view(matrix));
    const Reader reader = open_bytes(file);
    const Tensor tensor = reader.find("w").value();

    // All planes but a claim about the codebook. Sums are those of encode(), which adds up blocks of a matrix: those of
    // an embedding, which are smaller, round elsewhere.
    std::vector<StoredPlane> expected_planes = planes_in(direct, expected);
    std::vector<StoredPlane> planes = planes_in(file, tensor);
    std::erase_if(expected_planes, is_claim);
    const double epsilon = each.role == Role::embedding ? 1e-12 : 0;
    if (each.role == Role::embedding) {
      CHECK(std::erase_if(planes, is_statistics) == 1);
      CHECK(std::erase_if(expected_planes, is_statistics) == 1);
    }
    CHECK(planes == expected_planes);
    CHECK(test::difference(values_of(tensor), values_of(expected)).empty());
    const std::vector<float> x = test::random_operand(9, tensor.cols(), kSeed).values;
    for (const std::uint64_t m : {1U, 9U})
      CHECK(test::difference(product_with(tensor, x, m), product_with(expected, x, m)).empty());
    CHECK(std::abs(tensor.sum_squares() - expected.sum_squares()) <= epsilon * expected.sum_squares());
    CHECK(std::abs(tensor.sum_squared_error() - expected.sum_squared_error()) <= epsilon * expected.sum_squares());
    CHECK(tensor.max_abs_error() == expected.max_abs_error());
    CHECK(tensor.statistics()->code_entropy_bits == expected.statistics()->code_entropy_bits);
    CHECK(tensor.source_digest() == Digest{});
    CHECK_FALSE(tensor.may_be_nonfinite());
    const FsckReport report = check_deep(file);
    CHECK(report.valid);
  }
}

TEST_CASE("encoded planes: the file does not depend on threads, and codecs change none of its values") {
  const std::uint64_t rows = 3000;
  const std::uint64_t cols = 1000;
  CAPTURE(kSeed);
  const Bytes source = bytes_of(DType::f32, test::heavy_values(kSeed, rows * cols));
  const EncodedMatrix matrix = must(encode(DType::f32, rows, cols, source, must(parse_preset("cb4g32")).codebook));
  TensorSpec spec{"w", DType::f32, {rows, cols}, Role::embedding, Codec::raw};
  const Bytes raw = file_of_planes(spec, view(matrix));
  CHECK(raw == file_of_planes(spec, view(matrix), 4));
  const Reader reader = open_bytes(raw);
  REQUIRE(reader.find("w")->plane(0).block_count > 4);
  const std::vector<float> values = values_of(*reader.find("w"));
  for (const Codec codec : {Codec::zstd, Codec::brotli}) {
    spec.codec = codec;
    const Bytes file = file_of_planes(spec, view(matrix), 2);
    CHECK(file.size() < raw.size());
    CHECK(test::difference(values_of(*open_bytes(file).find("w")), values).empty());
    CHECK(check_deep(file).valid);
  }
}

// ---- Planes that no encoder of ours makes ----

TEST_CASE("encoded planes: of any width, with F32 codebooks, with and without scales, they decode as given") {
  struct Case {
    std::uint32_t bits;
    DType codebook;
    bool row_scales;
    std::uint32_t group;
    DType dtype;
    bool outliers;
  };
  const Case cases[] = {
      {1, DType::f16, true, 0, DType::f32, false},   {3, DType::f32, false, 0, DType::bf16, true},
      {7, DType::f32, false, 128, DType::f16, true}, {8, DType::f16, false, 32, DType::f64, false},
      {11, DType::f32, true, 64, DType::f32, true},  {16, DType::f32, true, 0, DType::f32, true},
  };
  for (const Case& each : cases) {
    INFO(each.bits << " bits, seed " << kSeed);
    test::CodebookShape shape;
    shape.rows = 37;
    shape.cols = 333;
    shape.bits = each.bits;
    shape.codebook_dtype = each.codebook;
    shape.row_scales = each.row_scales;
    shape.group = each.group;
    shape.outlier_dtype = each.outliers ? each.dtype : DType::none;
    CodebookPlanes planes = random_planes(shape, kSeed + each.bits);
    planes.dtype = each.dtype;
    const Bytes independent = test::file_of(planes);
    const Owned owned(planes);
    const TensorSpec spec{"w", each.dtype, {shape.rows, shape.cols}};
    const Bytes file = file_of_planes(spec, owned.planes);
    const Reader reader = open_bytes(file);
    const Tensor tensor = reader.find("w").value();
    CHECK(tensor.plane(1).dtype == each.codebook);
    CHECK(test::difference(values_of(tensor), values_of(*open_bytes(independent).find("w"))).empty());
    CHECK(check_deep(file).valid);
    // The Reader hands the planes out as they were put in.
    CHECK(must(tensor.statistics()).outlier_count == owned.outlier_positions.size());
    const auto book = must(tensor.codebook());
    CHECK(std::equal(book.begin(), book.end(), owned.codebook.begin(), owned.codebook.end()));
  }
}

TEST_CASE("encoded planes: what is not known of the source is recorded as unknown") {
  CAPTURE(kSeed);
  const Owned owned(random_planes({8, 64}, kSeed));
  const TensorSpec spec{"w", DType::f32, {8, 64}};
  const Bytes file = file_of_planes(spec, owned.planes);
  const Reader reader = open_bytes(file);
  const TensorStatistics unknown = must(reader.find("w")->statistics());
  CHECK(unknown.sum_squares == static_cast<double>(kInfinity));
  CHECK(unknown.sum_squared_error == static_cast<double>(kInfinity));
  CHECK(unknown.max_abs_error == static_cast<double>(kInfinity));
  CHECK(std::isnan(unknown.excess_kurtosis));
  CHECK(std::isnan(unknown.code_entropy_bits));
  CHECK(std::isnan(unknown.snr_db()));
  CHECK(check_deep(file).valid);

  // Statistics as such a reader gives them can be written again.
  EncodedPlanes again = owned.planes;
  again.statistics = unknown;
  CHECK(file_of_planes(spec, again) == file);
}

TEST_CASE("encoded planes: outliers that are not finite are kept bit for bit, and the item says so") {
  std::vector<double> values(64 * 64, 0.25);
  values[100] = static_cast<double>(kNan);
  values[3000] = -static_cast<double>(kInfinity);
  const Bytes source = bytes_of(DType::f32, values);
  CodebookOptions options;
  options.nonfinite = Nonfinite::exact;
  const EncodedMatrix matrix = must(encode(DType::f32, 64, 64, source, options));
  const Bytes file = file_of_planes({"w", DType::f32, {64, 64}}, view(matrix));
  const Reader reader = open_bytes(file);
  CHECK(reader.find("w")->may_be_nonfinite());
  CHECK(check_deep(file).valid);
  const std::vector<float> read = values_of(*reader.find("w"));
  for (const std::uint64_t i : {100U, 3000U}) CHECK(std::memcmp(&read[i], &source[4 * i], 4) == 0);
}

// ---- What is refused ----

TEST_CASE("encoded planes: whatever a reader would refuse is refused before anything is written, with its place") {
  CAPTURE(kSeed);
  const std::uint64_t rows = 20;
  const std::uint64_t cols = 70;  // Rows of codes end within a byte.
  const Bytes source = bytes_of(DType::f32, test::heavy_values(kSeed, rows * cols));
  CodebookOptions options = must(parse_preset("cb4g32,outliers=0.01,k=8")).codebook;
  const EncodedMatrix good = must(encode(DType::f32, rows, cols, source, options));
  REQUIRE(good.outlier_positions.size() >= 2);
  REQUIRE(good.bits == 3);
  const TensorSpec spec{"w", DType::f32, {rows, cols}};
  CHECK(check_deep(file_of_planes(spec, view(good))).valid);

  struct Case {
    const char* rule;
    const char* message;
    std::function<void(EncodedMatrix&)> damage;
  };
  const Case cases[] = {
      {"E2", "codes of 0 bits", [](auto& m) { m.bits = 0; }},
      {"E2", "codes of 17 bits", [](auto& m) { m.bits = 17; }},
      {"E2", "groups of 48", [](auto& m) { m.group = 48; }},
      {"", "codebook entries: 8, where bits, group and shape give 16", [](auto& m) { m.bits = 4; }},
      {"", "codebook entries: 9", [](auto& m) { m.codebook.push_back(100); }},
      {"", "bytes of codes: 539", [](auto& m) { m.codes.pop_back(); }},
      {"", "bytes of codes: 0", [](auto& m) { m.codes.clear(); }},
      {"", "row scales: 19, where bits, group and shape give 20", [](auto& m) { m.row_scales.pop_back(); }},
      {"", "group scales: 61", [](auto& m) { m.group_scales.push_back(0); }},
      {"", "group scales: 60", [](auto& m) { m.group = 0; }},
      {"", "entries of the scale table: 255", [](auto& m) { m.scale_table.pop_back(); }},
      {"", "bytes of outlier values", [](auto& m) { m.outlier_values.pop_back(); }},
      {"", "bytes of outlier values", [](auto& m) { m.outlier_positions.pop_back(); }},
      {"E3", "codebook entry 3 is less", [](auto& m) { std::swap(m.codebook[2], m.codebook[3]); }},
      {"D1", "codebook entry 7 is not finite", [](auto& m) { m.codebook[7] = kInfinity; }},
      {"D1", "codebook entry 0 is not finite", [](auto& m) { m.codebook[0] = kNan; }},
      {"D1", "row scale 19 is not finite", [](auto& m) { m.row_scales[19] = kNan; }},
      {"D1", "entry of the scale table 255 is not finite", [](auto& m) { m.scale_table[255] = kInfinity; }},
      {"E4", "of row 7 are not zero", [](auto& m) { m.codes[8 * 27 - 1] |= std::byte{0x80}; }},
      {"E6", "outlier 1 is at position", [](auto& m) { m.outlier_positions[1] = m.outlier_positions[0]; }},
      {"E6", "outlier 0 is at position 1400", [](auto& m) { m.outlier_positions[0] = 1400; }},
      {"E6", "is at position 18446744073709551615", [](auto& m) { m.outlier_positions.back() = ~std::uint64_t{0}; }},
      {"I9", "negative or NaN", [](auto& m) { m.statistics.sum_squares = -1; }},
      {"I9", "negative or NaN", [](auto& m) { m.statistics.sum_squared_error = -0.0; }},
      {"I9", "negative or NaN", [](auto& m) { m.statistics.max_abs_error = static_cast<double>(kNan); }},
      {"D4", "outliers of", [](auto& m) { ++m.statistics.outlier_count; }},
      {"D4", "infinite", [](auto& m) { m.statistics.excess_kurtosis = static_cast<double>(kInfinity); }},
      {"D4", "entropy of the codes", [](auto& m) { m.statistics.code_entropy_bits += 2e-6; }},
  };
  for (const Case& each : cases) {
    EncodedMatrix damaged = good;
    each.damage(damaged);
    const Error error = refusal(spec, view(damaged));
    INFO(each.message << ": " << error.describe());
    CHECK(error.code == Code::bad_argument);
    CHECK(error.message.find(each.message) != std::string::npos);
    CHECK(std::string(error.rule) == each.rule);
  }
}

TEST_CASE("encoded planes: specs that the encoding cannot have are refused") {
  CAPTURE(kSeed);
  const Owned owned(random_planes({8, 64}, kSeed));
  const auto code_of = [&](TensorSpec spec) { return refusal(spec, owned.planes).code; };
  CHECK(code_of({"w", DType::i32, {8, 64}}) == Code::bad_argument);
  CHECK(code_of({"w", DType::f32, {8, 65}}) == Code::bad_argument);
  CHECK(code_of({"w", DType::f32, {8, 0}}) == Code::bad_argument);
  CHECK(code_of({"w", DType::f32, {1, (1U << 24) + 1}}) == Code::bad_argument);
  CHECK(code_of({"w", DType::f32, {std::uint64_t{1} << 59, 2}}) == Code::limit);
  CHECK(code_of({"w", DType::f32, {std::uint64_t{1} << 35, 1U << 24}}) == Code::bad_argument);
  CHECK(code_of({"w", DType::f32, {8, 64}, Role::matrix, Codec::zstd, Filter::byte_planes}) == Code::bad_argument);
  EncodedPlanes wide = owned.planes;
  wide.bits = 16;
  CHECK(refusal({"w", DType::f32, {1, 1U << 24}}, wide).rule == std::string("P6"));
}

TEST_CASE("encoded planes: a stop that is asked for is an error, and no file") {
  CAPTURE(kSeed);
  const Owned owned(random_planes({8, 64}, kSeed));
  const std::atomic<bool> stop{true};
  WriterOptions options;
  options.stop = &stop;
  Bytes file;
  Writer writer = must(Writer::create(memory_sink(file), options));
  const auto result = writer.add_encoded({"w", DType::f32, {8, 64}}, owned.planes);
  REQUIRE_FALSE(result);
  CHECK(result.error().code == Code::cancelled);
}
