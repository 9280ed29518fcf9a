// Between formats: codes that a source holds, and what a container is exported as.
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "cdna/convert.hpp"
#include "random.hpp"
#include "temporary_folder.hpp"

using namespace cdna;

namespace {

using Bytes = std::vector<std::byte>;
constexpr std::uint64_t kSeed = 20250611, kRows = 70, kCols = 96;

// One matrix of codes, w, and a vector of values.
class CodesModel final : public Model {
 public:
  CodesModel() {
    test::Random random(kSeed);
    const std::vector<float> values = random.weights(kRows * kCols);
    CodebookOptions options;
    options.group = 32;
    auto encoded = encode(DType::f32, kRows, kCols, std::as_bytes(std::span(values)), options);
    REQUIRE(encoded.has_value());
    matrix_ = *std::move(encoded);
    decoded.resize(values.size());
    decode(matrix_, decoded);
    vector_ = random.weights(8);
    tensors_ = {{"v", DType::f32, {8}, 32}, {"w", DType::f32, {kRows, kCols}, 4 * values.size(), true}};
  }

  std::span<const ModelTensor> tensors() const override { return tensors_; }
  Result<void> read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) const override {
    const auto bytes = std::as_bytes(std::span(tensor == 0 ? vector_ : decoded));
    std::memcpy(out.data(), bytes.data() + offset, out.size());
    return {};
  }
  Result<HeldPlanes> read_planes(std::size_t tensor) const override {
    if (tensor == 0) return Model::read_planes(tensor);
    return HeldPlanes{view(matrix_), nullptr};
  }
  const Metadata& metadata() const override { return metadata_; }
  std::span<const ModelAsset> assets() const override { return {}; }
  Result<void> read_asset(std::size_t, std::uint64_t, std::span<std::byte>) const override { return {}; }
  std::span<const std::string> notes() const override { return {}; }

  std::uint64_t outliers() const { return matrix_.outlier_positions.size(); }

  std::vector<float> decoded;

 private:
  EncodedMatrix matrix_;
  std::vector<float> vector_;
  std::vector<ModelTensor> tensors_;
  Metadata metadata_;
};

Reader open(const Bytes& bytes) {
  auto reader = Reader::open(memory_source(bytes));
  if (!reader) FAIL(reader.error().describe());
  return *std::move(reader);
}

// The model as a container, w as the options say.
ConvertReport convert_to(Bytes& bytes, const Model& model, const ConvertOptions& options = {}) {
  auto report = convert(model, memory_sink(bytes), options);
  if (!report) FAIL(report.error().describe());
  return *std::move(report);
}

std::vector<float> values_of(const Reader& reader, const char* name) {
  const Tensor tensor = reader.find(name).value();
  std::vector<float> out(tensor.element_count());
  REQUIRE(tensor.read_rows(0, tensor.rows(), DType::f32, std::as_writable_bytes(std::span(out))).has_value());
  return out;
}

Bytes content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

}  // namespace

TEST_CASE("convert: codes of a source are taken over, and the report says what they are") {
  const CodesModel model;
  for (const char* encoding : {"exact", "cb8", "cb4g32"}) {
    INFO(encoding);
    ConvertOptions options;
    options.encoding = encoding;
    Bytes bytes;
    const ConvertReport report = convert_to(bytes, model, options);
    CHECK(values_of(open(bytes), "w") == model.decoded);
    REQUIRE(report.tensors.size() == 2);
    CHECK_FALSE(report.tensors[0].codes.has_value());
    CHECK(name_of(report.tensors[1].decision.preset) == "source");
    SourceCodes codes;
    codes.bits = 8;
    codes.group = 32;
    codes.outliers = model.outliers();
    CHECK(report.tensors[1].codes == codes);
    CHECK(report.tensors[1].written.stored_bytes > kRows * kCols);
  }
}

TEST_CASE("convert: codes of a source are decoded and encoded anew where a rule names the tensor") {
  const CodesModel model;
  ConvertOptions options;
  Bytes bytes;
  options.keep_exact = {"w"};
  ConvertReport report = convert_to(bytes, model, options);
  CHECK_FALSE(report.tensors[1].codes.has_value());
  CHECK(open(bytes).find("w")->encoding() == "cdna.exact");
  CHECK(values_of(open(bytes), "w") == model.decoded);

  options.keep_exact.clear();
  options.policy = R"({"rules": [{"glob": "w", "preset": "cb4g32"}]})";
  bytes.clear();
  report = convert_to(bytes, model, options);
  CHECK_FALSE(report.tensors[1].codes.has_value());
  CHECK(open(bytes).find("w")->plane(0).bits == 4);
}

TEST_CASE("export formats: each has a name, and the endings of files say three of them") {
  for (const ExportFormat format : export_formats()) CHECK(parse_export_format(name_of(format)) == format);
  CHECK(export_formats().size() == 4);
  CHECK_FALSE(parse_export_format("").has_value());
  CHECK_FALSE(parse_export_format("GGUF").has_value());
  CHECK(export_format_of("folder/a.safetensors") == ExportFormat::safetensors);
  CHECK(export_format_of(".gguf") == ExportFormat::gguf);
  CHECK(export_format_of("a.npz") == ExportFormat::npz);
  for (const char* other : {"", "npz", "a.npy", "a.npz/", "a.hxq", "a.GGUF", "a.safetensors.cdna"})
    CHECK_FALSE(export_format_of(other).has_value());
}

TEST_CASE("export_file: safetensors as export_safetensors writes it, and what is refused leaves nothing") {
  const test::TemporaryFolder folder;
  const CodesModel model;
  Bytes bytes;
  convert_to(bytes, model);
  const Reader reader = open(bytes);
  Bytes expected, sunk;
  REQUIRE(export_safetensors(reader, memory_sink(expected)).has_value());
  REQUIRE(export_model(reader, memory_sink(sunk), ExportFormat::safetensors).has_value());
  CHECK(sunk == expected);
  const std::string path = (folder.path() / "out").string();
  REQUIRE(export_file(reader, path, ExportFormat::safetensors).has_value());
  CHECK(content_of(path) == expected);

  const auto again = export_file(reader, path, ExportFormat::safetensors);
  REQUIRE_FALSE(again);
  CHECK(again.error().code == Code::exists);
  FileSinkOptions force;
  force.force = true;
  CHECK(export_file(reader, path, ExportFormat::safetensors, force).has_value());

  ExportOptions wrong;
  wrong.dtype = DType::i32;
  CHECK_FALSE(
      export_file(reader, (folder.path() / "wrong").string(), ExportFormat::safetensors, {}, wrong).has_value());
  CHECK_FALSE(std::filesystem::exists((folder.path() / "wrong").string()));

  const auto folder_into_sink = export_model(reader, memory_sink(sunk), ExportFormat::hxq);
  REQUIRE_FALSE(folder_into_sink);
  CHECK(folder_into_sink.error().code == Code::bad_argument);
}
