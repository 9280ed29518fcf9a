// Tests of the export as an HXQ checkpoint, and of whole conversions of what helix-substrate wrote.
#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cdna/convert.hpp"
#include "legacy_arrays.hpp"
#include "temporary_folder.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

// A model as a container in memory.
class Container {
 public:
  explicit Container(const Model& model, const std::string& encoding = "exact") {
    ConvertOptions options;
    options.encoding = encoding;
    const auto report = convert(model, memory_sink(bytes_), options);
    if (!report) FAIL(report.error().describe());
    auto reader = Reader::open(memory_source(bytes_));
    if (!reader) FAIL(reader.error().describe());
    reader_.emplace(*std::move(reader));
  }
  const Reader& reader() const { return *reader_; }

 private:
  std::vector<std::byte> bytes_;
  std::optional<Reader> reader_;
};

std::string digest_of_values(const Reader& reader, const std::string& name) {
  const auto tensor = reader.find(name);
  REQUIRE(tensor);
  std::vector<std::byte> values(tensor->rows() * tensor->row_bytes(DType::f32));
  const auto read = tensor->read_rows(0, tensor->rows(), DType::f32, values);
  if (!read) FAIL(read.error().describe());
  return sha256_hex(values);
}

ModelOptions skipping(const std::string& glob) {
  ModelOptions options;
  options.skip = {glob};
  return options;
}

nlohmann::json quantization_of(const std::string& folder) {
  return nlohmann::json::parse(file_text(folder + "/config.json")).at("quantization_config");
}

}  // namespace

TEST_CASE("conversion: v3 folders become containers that decode to what the original's reader returned") {
  for (const std::string folder : {"v3_dir_v023", "v3_dir_head"}) {
    const auto model = folder == "v3_dir_head" ? opened(kLegacy + folder + "/model")
                                               : opened(kLegacy + folder + "/model", skipping("morpho_seed"));
    const Container container(*model);
    const auto expected = legacy_arrays(folder);
    for (const ModelTensor& tensor : model->tensors()) {
      const auto array = expected.find(file_name_of(tensor.name));
      if (array == expected.end()) continue;
      INFO(tensor.name);
      CHECK(digest_of_values(container.reader(), tensor.name) == array->second.sha256);
      if (tensor.is_encoded) CHECK(container.reader().find(tensor.name)->type() == "cdna.codebook");
    }
    const auto metadata = container.reader().metadata();
    REQUIRE(metadata);
    CHECK(std::get<std::string>(metadata->at("cdna.source.integrity")) == "codebook only");
  }
}

TEST_CASE("export: checkpoints of two generations come back with the same weights") {
  for (const std::string name : {"hf_v023_cdna_v3", "hf_head_hxq"}) {
    const auto model = opened(kLegacy + name);
    const Container container(*model);
    const TemporaryFolder folder;
    const auto notes = export_hxq(container.reader(), folder / "out");
    if (!notes) FAIL(notes.error().describe());
    CHECK(notes->empty());
    const auto again = opened(folder / "out");
    REQUIRE(again->tensors().size() == model->tensors().size());
    for (std::size_t i = 0; i < model->tensors().size(); ++i) {
      INFO(name << " " << model->tensors()[i].name);
      CHECK(again->tensors()[i].name == model->tensors()[i].name);
      CHECK(again->tensors()[i].is_encoded == model->tensors()[i].is_encoded);
      CHECK(again->tensors()[i].dtype == model->tensors()[i].dtype);
      CHECK(content_of(*again, i) == content_of(*model, i));
    }
    CHECK(std::filesystem::exists(folder / "out/conversion_receipt.json"));
  }
}

TEST_CASE("export: vectors, low rank and 16-bit indices come back, and the configuration names them") {
  const TemporaryFolder source;
  const auto add = [&](const std::string& from, const std::string& name) {
    const auto place = source.path() / (name + ".cdnav3");
    std::filesystem::copy(kLegacy + from, place, std::filesystem::copy_options::recursive);
    auto meta = nlohmann::json::parse(file_text((place / "meta.json").string()));
    meta["tensor_name"] = name + ".weight";
    const std::string text = meta.dump();
    save_file((place / "meta.json").string(), std::as_bytes(std::span(text)));
  };
  add("v3_dir_v023/model/k16.cdnav3", "k16");
  add("v3_dir_v023/model/k512_uint16.cdnav3", "k512");
  add("v3_dir_v023/model/svd_rank4.cdnav3", "svd");
  add("v3_dir_head/model/vq4d_k256.cdnav3", "vq4");
  add("v3_dir_head/model/vq2d_k4096_uint16.cdnav3", "vq2");
  const Container container(*opened(source.path().string()));
  const TemporaryFolder folder;
  const auto notes = export_hxq(container.reader(), folder / "out");
  if (!notes) FAIL(notes.error().describe());
  const auto model = opened(folder / "out");
  const auto v023 = legacy_arrays("v3_dir_v023");
  const auto head = legacy_arrays("v3_dir_head");
  const auto check = [&](const std::string& name, const LegacyArray& array) {
    INFO(name);
    CHECK(sha256_hex(content_of(*model, number_of(*model, name + ".weight"))) == array.sha256);
  };
  check("k16", v023.at("k16"));
  check("k512", v023.at("k512_uint16"));
  check("svd", v023.at("svd_rank4"));
  check("vq4", head.at("vq4d_k256"));
  check("vq2", head.at("vq2d_k4096_uint16"));
  const auto config = quantization_of(folder / "out");
  CHECK(config.at("quant_method") == "cdna_v3");
  CHECK(config.at("module_k_map") == nlohmann::json{{"k16", 16}, {"k512", 512}, {"vq2", 4096}});
  CHECK(config.at("module_vector_dim_map") == nlohmann::json{{"vq2", 2}, {"vq4", 4}});
  CHECK(config.at("n_svd_routed") == 1);
  CHECK(config.at("compressed_modules").size() == 5);
}

TEST_CASE("export: what HXQ has no codes for is written as values, with a note") {
  ModelOptions plain;
  plain.format = ModelFormat::safetensors;
  const auto model = opened(kLegacy + "hf_v023_cdna_v3", plain);
  const Container container(*model, "cb8");
  REQUIRE(container.reader().find("lm_head.weight"));
  std::size_t encoded = 0;
  for (std::uint32_t i = 0; i < container.reader().tensor_count(); ++i)
    encoded += container.reader().tensor_item(i).type() == "cdna.codebook" ? 1U : 0U;
  const TemporaryFolder folder;
  const auto notes = export_hxq(container.reader(), folder / "out");
  REQUIRE(notes);
  CHECK(notes->size() >= encoded);
  const auto again = opened(folder / "out", plain);
  CHECK(again->tensors().size() == model->tensors().size());
}

TEST_CASE("export: a folder that exists is not touched, and a stopped export leaves nothing") {
  const Container container(*opened(kLegacy + "hf_v023_cdna_v3"));
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / "out");
  const auto refused = export_hxq(container.reader(), folder / "out");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Code::exists);
  CHECK(std::filesystem::is_empty(folder.path() / "out"));
  ExportOptions options;
  const std::atomic<bool> stop = true;
  options.stop = &stop;
  const auto stopped = export_hxq(container.reader(), folder / "other/", options);
  REQUIRE_FALSE(stopped);
  CHECK(stopped.error().code == Code::cancelled);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
  CHECK(export_hxq(container.reader(), folder / "absent/out").error().code == Code::io);
}

TEST_CASE("export: floats become what is asked for, codes stay") {
  const Container container(*opened(kLegacy + "hf_v023_cdna_v3"));
  const TemporaryFolder folder;
  ExportOptions options;
  options.dtype = DType::bf16;
  REQUIRE(export_hxq(container.reader(), folder / "out", options));
  const auto model = opened(folder / "out");
  CHECK(model->tensors()[number_of(*model, "lm_head.weight")].dtype == DType::bf16);
  CHECK(model->tensors()[number_of(*model, "model.layers.0.mlp.down_proj.weight")].is_encoded);
  options.dtype = DType::u8;
  CHECK(export_hxq(container.reader(), folder / "no", options).error().code == Code::bad_argument);
  options = {};
  options.q8_0 = true;
  CHECK(export_hxq(container.reader(), folder / "no", options).error().code == Code::bad_argument);
  CHECK_FALSE(std::filesystem::exists(folder / "no"));
}
