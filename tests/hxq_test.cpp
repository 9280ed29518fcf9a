// Tests of the import of HXQ checkpoints: what helix-substrate wrote, bit for bit, and made-up and damaged ones.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "legacy_arrays.hpp"
#include "temporary_folder.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

// A safetensors file in the making.
class Checkpoint {
 public:
  Checkpoint& add(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& data) {
    header_ += std::string(header_.empty() ? "" : ",") + "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" +
               shape + "],\"data_offsets\":[" + std::to_string(data_.size()) + "," +
               std::to_string(data_.size() + data.size()) + "]}";
    data_ += data;
    return *this;
  }
  template <class T>
  Checkpoint& add(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::vector<T>& values) {
    return add(name, dtype, shape,
               std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)));
  }
  // In a folder of its own, with config.json.
  std::string write(const TemporaryFolder& folder, const std::string& config = {}) const {
    const std::string header = "{" + header_ + "}";
    std::string file(8, '\0');
    const std::uint64_t length = header.size();
    std::memcpy(file.data(), &length, sizeof length);
    file += header + data_;
    save_file(folder / "model.safetensors", std::as_bytes(std::span(file)));
    if (config.empty()) return folder / "model.safetensors";
    save_file(folder / "config.json", std::as_bytes(std::span(config)));
    return folder.path().string();
  }

 private:
  std::string header_;
  std::string data_;
};

using Floats = std::vector<float>;
using Bytes = std::vector<std::uint8_t>;
using Words = std::vector<std::uint16_t>;
using Positions = std::vector<std::int64_t>;

// 2 x 3 with codebook -1, 2, 5.
Checkpoint small() {
  Checkpoint file;
  file.add("m.codebook", "F32", "3", Floats{2, -1, 5}).add("m.indices", "U8", "2,3", Bytes{0, 1, 2, 2, 1, 0});
  return file;
}

Floats decoded(const Model& model, const std::string& name) { return decoded_planes(model, number_of(model, name)); }

ModelOptions shaped(const std::string& shape) {
  ModelOptions options;
  options.shapes = {shape};
  return options;
}

// Six 12-bit indices, of entries 1 to 6 where `vector` is 1.
Checkpoint packed(const std::string& codebook_shape = "7") {
  Checkpoint file;
  Floats entries(codebook_shape == "7" ? 7 : 14);
  for (std::size_t i = 0; i < entries.size(); ++i) entries[i] = static_cast<float>(i);
  file.add("m.codebook", "F32", codebook_shape, entries);
  file.add("m.indices", "U8", "9", Bytes{1, 2 << 4, 0, 3, 4 << 4, 0, 5, 6 << 4, 0});
  return file;
}

Error error_in(const Checkpoint& checkpoint, const ModelOptions& options = {}) {
  const TemporaryFolder folder;
  const auto model = open_model(checkpoint.write(folder), options);
  if (!model) return model.error();
  const auto planes = (*model)->read_planes(number_of(**model, "m.weight"));
  REQUIRE_FALSE(planes);
  return planes.error();
}

void check_error(const Error& error, Code code, const std::string& item, const std::string& part) {
  INFO(error.describe());
  CHECK(error.code == code);
  CHECK(error.item == item);
  CHECK(error.message.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("hxq: checkpoints of two generations decode to what the original's layers hold") {
  for (const std::string name : {"hf_v023_cdna_v3", "hf_head_hxq"}) {
    const auto model = opened(kLegacy + name);
    std::size_t found = 0;
    for (const auto& [module, array] : legacy_arrays(name)) {
      if (module.ends_with(".x") || module.ends_with(".y")) continue;
      INFO(name << " " << module);
      const std::size_t number = number_of(*model, module + ".weight");
      ++found;
      CHECK(model->tensors()[number].is_encoded);
      CHECK(model->tensors()[number].shape == array.shape);
      CHECK(sha256_hex(content_of(*model, number)) == array.sha256);
      CHECK(sha256_hex(decoded_planes(*model, number)) == array.sha256);
    }
    CHECK(found == 3);
    CHECK(model->tensors().size() == 11);
    CHECK(std::get<std::string>(model->metadata().at("cdna.source.integrity")) == "none");
    CHECK(has_note(*model, "source integrity: none"));
    CHECK(std::holds_alternative<JsonText>(model->metadata().at("helix:quantization_config")));
  }
}

TEST_CASE("hxq: a bias and other exact tensors keep dtype and bytes") {
  const auto model = opened(kLegacy + "hf_head_hxq");
  ModelOptions plain;
  plain.format = ModelFormat::safetensors;
  const auto checkpoint = opened(kLegacy + "hf_head_hxq", plain);
  CHECK(checkpoint->tensors().size() == 20);
  for (const std::string name : {"model.layers.0.self_attn.q_proj.bias", "lm_head.weight", "model.layers.0.mamba.D"}) {
    const std::size_t here = number_of(*model, name);
    const std::size_t there = number_of(*checkpoint, name);
    CHECK(model->tensors()[here].dtype == checkpoint->tensors()[there].dtype);
    CHECK(content_of(*model, here) == content_of(*checkpoint, there));
  }
}

TEST_CASE("hxq: where the configuration and the data disagree a note says so") {
  const auto model = opened(kLegacy + "hf_head_hxq");
  CHECK(has_note(*model, "config.json: 1 module (model.layers.0.mamba.in_proj) with a codebook of another size"));
  CHECK(
      has_note(*model, "config.json: 1 module (model.layers.0.mamba.in_proj) with codebook entries of other elements"));
  const TemporaryFolder folder;
  const auto other = opened(small().write(folder, R"({"quantization_config": {"quant_method": "awq",
      "codebook_size": 3, "compressed_modules": ["layers.1.m", "x"], "index_packing": "12bit"}})"));
  CHECK(has_note(*other, "quant_method is \"awq\""));
  CHECK(has_note(*other, "lacks 1 module (m)"));
  CHECK(has_note(*other, "has 2 modules (layers.1.m, ...) of which nothing is there"));
  CHECK(has_note(*other, "no indices are packed"));
}

TEST_CASE("hxq: modules that may share tensors of another layer are noted, each with that") {
  Checkpoint file;
  file.add("l.5.m.codebook", "F32", "3", Floats{2, -1, 5}).add("l.5.m.indices", "U8", "2,3", Bytes{0, 1, 2, 2, 1, 0});
  const TemporaryFolder folder;
  const auto model = opened(file.write(folder, R"({"quantization_config": {"quant_method": "hxq",
      "compressed_modules": ["l.5.m", "l.11.m"]}})"));
  CHECK(has_note(*model, "the module l.11.m is not there; it may share the tensors of l.5.m, or be lost"));
  CHECK(model->tensors().size() == 1);
}

TEST_CASE("hxq: scalar codes decode to codebook[index], with a sidecar under either name") {
  const TemporaryFolder folder;
  CHECK(decoded(*opened(small().write(folder)), "m.weight") == Floats{2, -1, 5, 5, -1, 2});
  for (const std::string name : {"m.sidecar_positions", "m.sidecar_indices"}) {
    Checkpoint file = small();
    file.add(name, "I64", "2", Positions{1, 5}).add("m.sidecar_values", "F32", "2", Floats{0.1F, 9});
    CHECK(decoded(*opened(file.write(folder)), "m.weight") == Floats{2, 0.1F, 5, 5, -1, 9});
  }
}

TEST_CASE("hxq: 16-bit indices, signed or not, are the same") {
  const TemporaryFolder folder;
  for (const std::string dtype : {"U16", "I16"}) {
    Checkpoint file;
    Floats entries(40000);
    for (std::size_t i = 0; i < entries.size(); ++i) entries[i] = static_cast<float>(i);
    file.add("m.codebook", "F32", "40000", entries).add("m.indices", dtype, "1,3", Words{0, 39999, 300});
    CHECK(decoded(*opened(file.write(folder)), "m.weight") == Floats{0, 39999, 300});
  }
}

TEST_CASE("hxq: the shape of 12-bit indices comes from what the module has for each row or column") {
  const TemporaryFolder folder;
  Checkpoint bias = packed();
  bias.add("m.bias", "F16", "3", Words{0, 0, 0});
  const auto model = opened(bias.write(folder));
  CHECK(model->tensors()[number_of(*model, "m.weight")].shape == std::vector<std::uint64_t>{3, 2});
  CHECK(decoded(*model, "m.weight") == Floats{1, 2, 3, 4, 5, 6});
  Checkpoint scales = packed();
  scales.add("m.channel_scales", "F32", "3", Floats{1, 2, 4});
  const auto scaled = opened(scales.write(folder));
  CHECK(scaled->tensors()[0].shape == std::vector<std::uint64_t>{2, 3});
  CHECK(decoded(*scaled, "m.weight") == Floats{1, 1, 0.75F, 4, 2.5F, 1.5F});
  CHECK(has_note(*scaled, "channel_scales are undone"));
}

TEST_CASE("hxq: a shape that nothing tells is asked for, and taken from the options or the compressor's output") {
  check_error(error_in(packed()), Code::malformed, "m.indices", "give them, as in shapes \"m.weight=ROWSxCOLS\"");
  const TemporaryFolder folder;
  const std::string path = packed("7,2").write(folder);
  CHECK(opened(path, shaped("*.weight=3x*"))->tensors()[0].shape == std::vector<std::uint64_t>{3, 4});
  CHECK(opened(path, shaped("m.*=*x6"))->tensors()[0].shape == std::vector<std::uint64_t>{2, 6});
  CHECK(decoded(*opened(path, shaped("m.weight=1x12")), "m.weight") == Floats{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13});
  CHECK(refusal_of(path, shaped("m.weight=5x3")).code == Code::malformed);
  CHECK(refusal_of(path, shaped("m.weight=12x1")).code == Code::malformed);  // Entries of two elements.
  for (const std::string text : {"m.weight", "=2x3", "m=0x3", "m=*x*", "m=2", "m=2x", "m=-1x3"})
    CHECK(refusal_of(path, shaped(text)).code == Code::bad_argument);
  std::filesystem::create_directories(folder.path() / "cdnav3" / "m_weight.cdnav3");
  const std::string meta = R"({"format_version": "cdna_v3", "tensor_name": "m.weight", "shape": [6, 2]})";
  save_file(folder / "cdnav3/m_weight.cdnav3/meta.json", std::as_bytes(std::span(meta)));
  const auto model = opened(path);
  CHECK(model->tensors()[0].shape == std::vector<std::uint64_t>{6, 2});
  CHECK(has_note(*model, "m.weight: its shape is from"));
}

TEST_CASE("hxq: a shape for no module is refused, and one for a module whose shape is known compared with it") {
  const TemporaryFolder folder;
  const std::string path = small().write(folder);
  CHECK(opened(path, shaped("m.weight=2x3"))->tensors()[0].shape == std::vector<std::uint64_t>{2, 3});
  CHECK(opened(path, shaped("m.*=2x*"))->tensors().size() == 1);
  check_error(refusal_of(path, shaped("m.weight=3x2")), Code::malformed, "m.indices", "has 3 rows, and");
  check_error(refusal_of(path, shaped("m.weight=2x4")), Code::malformed, "m.indices", "has 2 x 4 elements");
  check_error(refusal_of(path, shaped("m.weihgt=2x3")), Code::bad_argument, "", "\"m.weihgt\" fits no weight of codes");
  ModelOptions both = shaped("m.weight=2x3");
  both.shapes.emplace_back("m.*=5x5");  // The first that fits counts.
  CHECK(opened(path, both)->tensors().size() == 1);
}

TEST_CASE("hxq: sizes that config.json has for each of many modules are compared with them") {
  std::string sizes;
  std::string vectors;
  Checkpoint file;
  for (int i = 0; i < 2000; ++i) {
    const std::string name = "l." + std::to_string(i) + ".m";
    file.add(name + ".codebook", "F32", "1", Floats{1}).add(name + ".indices", "U8", "1,1", Bytes{0});
    sizes += std::string(i == 0 ? "" : ",") + "\"" + name + "\": " + (i == 1234 ? "2" : "1");
    vectors += std::string(i == 0 ? "" : ",") + "\"" + name + "\": " + (i == 777 ? "4" : "1");
  }
  const TemporaryFolder folder;
  const auto model = opened(file.write(folder, R"({"quantization_config": {"quant_method": "hxq", "codebook_size": 9,
      "vector_dim": 2, "module_k_map": {)" + sizes +
                                                   R"(}, "module_vector_dim_map": {)" + vectors + "}}}"));
  CHECK(has_note(*model, "config.json: 1 module (l.1234.m) with a codebook of another size"));
  CHECK(has_note(*model, "config.json: 1 module (l.777.m) with codebook entries of other elements"));
}

TEST_CASE("hxq: 12-bit indices that are no pairs, or of no multiple of the rows, are refused") {
  Checkpoint odd;
  odd.add("m.codebook", "F32", "3", Floats{2, -1, 5}).add("m.indices", "U8", "4", Bytes{0, 1, 2, 2});
  check_error(error_in(odd), Code::malformed, "m.indices", "pairs of 12-bit");
  Checkpoint bias = packed();
  bias.add("m.bias", "F32", "4", Floats{0, 0, 0, 0});
  check_error(error_in(bias), Code::malformed, "m.indices", "not a multiple of the 4 rows");
}

TEST_CASE("hxq: SVD terms are added and must fit") {
  const TemporaryFolder folder;
  Checkpoint file = small();
  file.add("m.svd_U", "F32", "2,1", Floats{1, 2}).add("m.svd_s", "F32", "1", Floats{0.5F});
  CHECK(refusal_of(file.write(folder)).message.find("are missing") != std::string::npos);
  file.add("m.svd_Vt", "F32", "1,3", Floats{2, 4, 8});
  CHECK(decoded(*opened(file.write(folder)), "m.weight") == Floats{3, 1, 9, 7, 3, 10});
  Checkpoint wrong = small();
  wrong.add("m.svd_U", "F32", "3,1", Floats{1, 2, 3}).add("m.svd_s", "F32", "1", Floats{0.5F});
  wrong.add("m.svd_Vt", "F32", "1,3", Floats{2, 4, 8});
  check_error(error_in(wrong), Code::malformed, "m.svd_U", "shape [3, 1], where the module has [2, 1]");
}

TEST_CASE("hxq: empty parts, as state dicts have them, are none") {
  const TemporaryFolder folder;
  Checkpoint file = small();
  for (const std::string part : {"sidecar_values", "svd_U", "svd_s", "svd_Vt", "channel_scales"})
    file.add("m." + part, "F32", "0", std::string());
  file.add("m.sidecar_positions", "I64", "0", std::string());
  const auto model = opened(file.write(folder));
  CHECK(model->tensors().size() == 1);
  CHECK(decoded(*model, "m.weight") == Floats{2, -1, 5, 5, -1, 2});
}

TEST_CASE("hxq: an index beyond the codebook, and sidecars out of range, order or balance, are refused") {
  Checkpoint index;
  index.add("m.codebook", "F32", "3", Floats{2, -1, 5}).add("m.indices", "U8", "2,3", Bytes{0, 1, 2, 2, 3, 0});
  const Error error = error_in(index);
  check_error(error, Code::malformed, "m.weight", "3");
  const auto with_sidecar = [](const Positions& positions, std::size_t values) {
    Checkpoint file = small();
    file.add("m.sidecar_positions", "I64", std::to_string(positions.size()), positions);
    file.add("m.sidecar_values", "F32", std::to_string(values), Floats(values));
    return error_in(file);
  };
  check_error(with_sidecar({0, 6}, 2), Code::malformed, "m.sidecar_positions", "position 1 is 6, out of the range");
  check_error(with_sidecar({-1, 2}, 2), Code::malformed, "m.sidecar_positions", "position 0 is -1");
  check_error(with_sidecar({2, 2}, 2), Code::malformed, "m.sidecar_positions", "again, 2");
  check_error(with_sidecar({3, 2}, 2), Code::malformed, "m.sidecar_positions", "less than the one before");
  check_error(with_sidecar({3, 4}, 1), Code::malformed, "m.sidecar_positions", "2 positions and 1 values");
  Checkpoint half = small();
  half.add("m.sidecar_values", "F32", "1", Floats{1});
  check_error(error_in(half), Code::malformed, "m.sidecar_values", "without sidecar_positions");
}

TEST_CASE("hxq: infinite sidecar values are kept and noted") {
  const TemporaryFolder folder;
  Checkpoint file = small();
  file.add("m.sidecar_positions", "I64", "2", Positions{0, 1}).add("m.sidecar_values", "F32", "2", Floats{1, INFINITY});
  const auto model = opened(file.write(folder));
  CHECK(has_note(*model, "m.weight: 1 of 2 sidecar values are not finite"));
  CHECK(decoded(*model, "m.weight")[1] == INFINITY);
}

TEST_CASE("hxq: a dotted duplicate is dropped where it is the same, and kept where it is not") {
  const TemporaryFolder folder;
  Checkpoint file = small();
  file.add("a.input_layernorm.weight", "F32", "2", Floats{1, 2})
      .add("a.input.layernorm.weight", "F32", "2", Floats{1, 2});
  file.add("b.q_norm.weight", "F32", "2", Floats{1, 2}).add("b.q.norm.weight", "F32", "2", Floats{1, 3});
  const auto model = opened(file.write(folder));
  CHECK(model->tensors().size() == 4);
  CHECK(has_note(*model, "a.input.layernorm.weight: the same as a.input_layernorm.weight"));
  CHECK(has_note(*model, "b.q.norm.weight: other values than b.q_norm.weight"));
  number_of(*model, "a.input_layernorm.weight");
}

TEST_CASE("hxq: dense values beside codes are left out with a note") {
  const TemporaryFolder folder;
  Checkpoint file = small();
  file.add("m.weight", "F32", "2,3", Floats{0, 0, 0, 0, 0, 0});
  const auto model = opened(file.write(folder));
  CHECK(model->tensors().size() == 1);
  CHECK(has_note(*model, "m.weight: also there as values"));
}

TEST_CASE("hxq: modules can be left out, even those that cannot be read") {
  const TemporaryFolder folder;
  Checkpoint file = packed();
  file.add("n.codebook", "F32", "3", Floats{2, -1, 5}).add("n.indices", "U8", "1,3", Bytes{0, 1, 2});
  ModelOptions options;
  options.skip = {"m.weight"};
  const auto model = opened(file.write(folder), options);
  CHECK(model->tensors().size() == 1);
  CHECK(has_note(*model, "m.weight: left out on request"));
  options.skip = {"m.weight", "absent"};
  CHECK(refusal_of(file.write(folder), options).code == Code::bad_argument);
}

TEST_CASE("hxq: what only looks like a codebook stays as it is") {
  const TemporaryFolder folder;
  Checkpoint file;
  file.add("vq.codebook", "F16", "2", Words{1, 2}).add("vq.indices", "I32", "1", std::string(4, '\0'));
  const std::string path = file.write(folder);
  CHECK(opened(path)->tensors().size() == 2);
  ModelOptions options;
  options.format = ModelFormat::hxq;
  CHECK(refusal_of(path, options).code == Code::bad_argument);
}

TEST_CASE("hxq: floats of a model that was cast to another dtype are widened") {
  const TemporaryFolder folder;
  const auto check = [&](const std::string& dtype, const std::string& codebook, const std::string& value) {
    INFO(dtype);
    Checkpoint file;
    file.add("m.codebook", dtype, "3", codebook).add("m.indices", "U8", "2,3", Bytes{0, 1, 2, 2, 1, 0});
    file.add("m.sidecar_positions", "I64", "1", Positions{1}).add("m.sidecar_values", dtype, "1", value);
    file.add("m.svd_U", dtype, "2,1", value + value).add("m.svd_s", dtype, "1", value);
    file.add("m.svd_Vt", dtype, "1,3", value + value + value).add("m.channel_scales", dtype, "3", codebook);
    const auto model = opened(file.write(folder));
    CHECK(model->tensors().size() == 1);
    CHECK(has_note(*model, "m.weight: the codebook is " + dtype));
    CHECK(decoded(*model, "m.weight") == Floats{5, -10, 2.6F, 6.5F, -7, 2});  // Sidecar 2, SVD 8, scales 2, -1, 5.
  };
  const auto bytes = [](const auto& values) {
    return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof values[0]);
  };
  check("F16", bytes(Words{0x4000, 0xBC00, 0x4500}), bytes(Words{0x4000}));
  check("BF16", bytes(Words{0x4000, 0xBF80, 0x40A0}), bytes(Words{0x4000}));
  check("F64", bytes(std::vector<double>{2, -1, 5}), bytes(std::vector<double>{2}));
  Checkpoint inexact;
  inexact.add("m.codebook", "F64", "2", std::vector<double>{1, 0.1}).add("m.indices", "U8", "1,2", Bytes{0, 1});
  check_error(error_in(inexact), Code::unsupported, "m.codebook", "element 1 of dtype F64");
}

TEST_CASE("hxq: indices of 32 and 64 bits are read once the checkpoint is known to be HXQ") {
  const std::string config = R"({"quantization_config": {"quant_method": "hxq"}})";
  const auto file = [](const std::string& dtype, const auto& indices) {
    Checkpoint out;
    return out.add("m.codebook", "F32", "3", Floats{2, -1, 5}).add("m.indices", dtype, "1,2", indices);
  };
  const TemporaryFolder folder;
  for (const std::string dtype : {"I32", "U32"}) {
    const auto model = opened(file(dtype, std::vector<std::uint32_t>{2, 1}).write(folder, config));
    CHECK(decoded(*model, "m.weight") == Floats{5, -1});
  }
  CHECK(decoded(*opened(file("I64", Positions{1, 0}).write(folder, config)), "m.weight") == Floats{-1, 2});
  ModelOptions hxq;
  hxq.format = ModelFormat::hxq;
  check_error(error_in(file("I64", Positions{1, 65536}), hxq), Code::malformed, "m.indices", "index 1 is 65536, of 3");
  check_error(error_in(file("I64", Positions{-1, 0}), hxq), Code::malformed, "m.indices", "index 0 is -1");
  const TemporaryFolder other;
  CHECK(opened(file("I64", Positions{1, 0}).write(other))->tensors().size() == 2);  // Nothing says that it is HXQ.
}

TEST_CASE("hxq: parts without form or partner are errors, in the company of a module or of config.json") {
  const std::string config = R"({"quantization_config": {"quant_method": "cdna_v3"}})";
  const auto check = [&](const Checkpoint& parts, Code code, const std::string& item, const std::string& text) {
    const TemporaryFolder folder;
    const std::string path = parts.write(folder, config);
    check_error(refusal_of(path), code, item, text);
    ModelOptions options;
    options.skip = {"z.weight"};
    const auto model = opened(path, options);
    CHECK(model->tensors().empty());
    CHECK(has_note(*model, "z.weight: left out on request"));
    options.skip[0] = "z.*";
    CHECK(opened(path, options)->tensors().empty());
    Checkpoint beside = parts;
    beside.add("m.codebook", "F32", "3", Floats{2, -1, 5}).add("m.indices", "U8", "2,3", Bytes{0, 1, 2, 2, 1, 0});
    const TemporaryFolder plain;
    check_error(refusal_of(beside.write(plain)), code, item, text);
    options.skip[0] = item;
    if (text == "part of") CHECK(opened(beside.write(plain), options)->tensors().size() == 1);
  };
  for (const std::string part : {"codebook", "sidecar_positions", "sidecar_indices", "sidecar_values", "svd_U", "svd_s",
                                 "svd_Vt", "channel_scales"})
    check(Checkpoint().add("z." + part, "F32", "1", Floats{1}), Code::malformed, "z." + part, "part of");
  check(Checkpoint().add("z.indices", "U8", "1,1", Bytes{0}), Code::malformed, "z.indices",
        "dtype U8 and shape [1, 1]");
  Checkpoint codebook;
  codebook.add("z.codebook", "I8", "2", Bytes{1, 2}).add("z.indices", "U8", "1,2", Bytes{0, 1});
  check(codebook, Code::unsupported, "z.codebook", "dtype I8 and shape [2]");
  Checkpoint indices;
  indices.add("z.codebook", "F32", "1", Floats{1}).add("z.indices", "F32", "1,1", Floats{0});
  check(indices, Code::unsupported, "z.indices", "dtype F32 and shape [1, 1]");
}

TEST_CASE("hxq: a receipt among the assets that does not verify is noted") {
  const TemporaryFolder folder;
  std::string receipt = file_text(kLegacy + "receipts/execution_receipt_v1.json");
  const std::string path = small().write(folder, R"({"quantization_config": {"quant_method": "hxq",
      "compressed_modules": ["m"]}})");
  save_file(folder / "receipt.json", std::as_bytes(std::span(receipt)));
  CHECK_FALSE(has_note(*opened(path), "receipt.json"));
  receipt.replace(receipt.find("4096"), 4, "4097");
  save_file(folder / "receipt.json", std::as_bytes(std::span(receipt)));
  const auto model = opened(path);
  CHECK(has_note(*model, "receipt.json: a receipt that does not verify: receipt_sha256"));
  CHECK(model->assets().size() == 2);
}
