// Tests of the import of helix-substrate's v3 folders: what its writer wrote, bit for bit, and damaged copies.
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <set>

#include "legacy_arrays.hpp"
#include "temporary_folder.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

const std::string kV023 = kLegacy + "v3_dir_v023/model";
const std::string kHead = kLegacy + "v3_dir_head/model";

ModelOptions skipping(std::vector<std::string> globs) {
  ModelOptions options;
  options.skip = std::move(globs);
  return options;
}

void check_against_original(const std::string& folder, const ModelOptions& options, const std::set<std::string>& left) {
  const auto model = opened(kLegacy + folder + "/model", options);
  const auto expected = legacy_arrays(folder);
  std::size_t found = 0;
  for (std::size_t i = 0; i < model->tensors().size(); ++i) {
    const ModelTensor& tensor = model->tensors()[i];
    const auto array = expected.find(file_name_of(tensor.name));
    if (array == expected.end()) continue;
    ++found;
    INFO(tensor.name);
    CHECK(tensor.shape == array->second.shape);
    CHECK(tensor.dtype == DType::f32);
    CHECK(sha256_hex(content_of(*model, i)) == array->second.sha256);
    if (!tensor.is_encoded) continue;
    CHECK(sha256_hex(decoded_planes(*model, i)) == array->second.sha256);
  }
  CHECK(found + left.size() == expected.size());
}

// A copy of a tensor folder of the fixture, to be damaged.
class Copy {
 public:
  explicit Copy(const std::string& source) {
    std::filesystem::copy(source, folder_.path(), std::filesystem::copy_options::recursive);
  }
  std::string path() const { return folder_.path().string(); }
  std::string text(const std::string& name) const { return file_text(path() + "/" + name); }
  void write(const std::string& name, const std::string& bytes) const {
    save_file(path() + "/" + name, std::as_bytes(std::span(bytes)));
  }
  void copy_in(const std::string& source, const std::string& name) const {
    std::filesystem::copy_file(source, folder_.path() / name, std::filesystem::copy_options::overwrite_existing);
  }
  void remove(const std::string& name) const { std::filesystem::remove_all(folder_.path() / name); }
  void replace(const std::string& name, const std::string& from, const std::string& to) const {
    std::string bytes = text(name);
    const std::size_t at = bytes.find(from);
    REQUIRE(at != std::string::npos);
    write(name, bytes.replace(at, from.size(), to));
  }
  void flip(const std::string& name, std::size_t from_end) const {
    std::string bytes = text(name);
    bytes[bytes.size() - 1 - from_end] = static_cast<char>(bytes[bytes.size() - 1 - from_end] ^ 1);
    write(name, bytes);
  }

 private:
  TemporaryFolder folder_;
};

// Opening, or reading what was opened.
Error failure_of(const std::string& path) {
  const auto model = open_model(path);
  if (!model) return model.error();
  const auto planes = (*model)->read_planes(0);
  REQUIRE_FALSE(planes);
  return planes.error();
}

void check_failure(const Copy& copy, Code code, const std::string& file, const std::string& part) {
  const Error error = failure_of(copy.path());
  INFO(error.describe());
  CHECK(error.code == code);
  CHECK(error.file.ends_with(file));
  CHECK(error.message.find(part) != std::string::npos);
  CHECK_FALSE(error.item.empty());
}

// An array as NumPy writes it.
std::string npy(const std::string& descr, const std::string& shape, const std::string& data) {
  std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (" + shape + "), }";
  header.append((64 - (10 + header.size() + 1) % 64) % 64, ' ');
  header += '\n';
  std::string out("\x93NUMPY\x01\x00", 8);
  out += static_cast<char>(header.size() & 255);
  out += static_cast<char>(header.size() >> 8);
  return out + header + data;
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace

TEST_CASE("helix v3: every tensor of 0.2.3 decodes to what its own reader returned") {
  check_against_original("v3_dir_v023", skipping({"morpho_seed"}), {"morpho_seed"});
}

TEST_CASE("helix v3: every tensor of the last version decodes to what its own reader returned") {
  check_against_original("v3_dir_head", {}, {});
}

TEST_CASE("helix v3: a weight that cannot be grown again is refused by name, and left out on request only") {
  const Error error = refusal_of(kV023);
  CHECK(error.code == Code::unsupported);
  CHECK(error.item == "morpho_seed");
  CHECK(error.message.find("morpho_v1") != std::string::npos);
  const auto model = opened(kV023, skipping({"morpho_seed"}));
  CHECK(model->tensors().size() == 21);
  CHECK(has_note(*model, "left out on request: morpho_seed"));
  CHECK(refusal_of(kV023, skipping({"morpho_seed", "absent*"})).code == Code::bad_argument);
}

TEST_CASE("helix v3: arrays keep dtype, name and bytes") {
  const auto model = opened(kHead);
  const std::size_t norm = number_of(*model, "model.layers.0.input_layernorm.weight");
  CHECK(model->tensors()[norm].dtype == DType::f16);
  const std::string file = file_text(kHead + "/model_layers_0_input_layernorm_weight.npy");
  const auto content = content_of(*model, norm);
  REQUIRE(content.size() == 256);
  CHECK(std::memcmp(content.data(), file.data() + file.size() - 256, 256) == 0);
  CHECK_FALSE(model->tensors()[norm].is_encoded);
  CHECK(model->read_planes(norm).error().code == Code::bad_argument);
}

TEST_CASE("helix v3: what the source could not be checked against is said once and recorded") {
  const auto model = opened(kHead);
  CHECK(std::get<std::string>(model->metadata().at("cdna.source.integrity")) == "codebook only");
  CHECK(std::count_if(model->notes().begin(), model->notes().end(),
                      [](const std::string& note) { return note.starts_with("source integrity: "); }) == 1);
  CHECK(std::holds_alternative<JsonText>(model->metadata().at("helix:meta:vq2d_k256")));
  CHECK(std::holds_alternative<JsonText>(model->metadata().at("helix:stats:vq2d_k256")));
  REQUIRE(model->assets().size() == 1);
  CHECK(model->assets()[0].name == "manifest_v3.json");
}

TEST_CASE("helix v3: sidecar values beyond half precision are noted with count and tensor") {
  const auto model = opened(kV023 + "/fp16_overflow_outliers.cdnav3");
  CHECK(has_note(*model, "fp16_overflow_outliers: 3 of 4 sidecar values are not finite"));
}

TEST_CASE("helix v3: the folder of the compressor of both versions decodes as its checkpoint") {
  for (const std::string name : {"hf_v023_cdna_v3", "hf_head_hxq"}) {
    const auto model = opened(kLegacy + name + "/cdnav3_dir");
    CHECK(model->tensors().size() == 9);
    for (const auto& [module, array] : legacy_arrays(name)) {
      if (module.ends_with(".x") || module.ends_with(".y")) continue;
      INFO(module);
      CHECK(sha256_hex(content_of(*model, number_of(*model, module + ".weight"))) == array.sha256);
    }
  }
}

TEST_CASE("helix v3: a damaged codebook is told by its hash before it is used") {
  const Copy copy(kV023 + "/k64.cdnav3");
  copy.flip("codebook.npy", 5);
  check_failure(copy, Code::corrupt, "codebook.npy", "codebook_sha256");
}

TEST_CASE("helix v3: a codebook without hash is read with a note") {
  const Copy copy(kV023 + "/k64.cdnav3");
  copy.replace("meta.json", "codebook_sha256", "codebook_sha");
  CHECK(has_note(*opened(copy.path()), "k64: meta.json has no codebook_sha256"));
}

TEST_CASE("helix v3: a damaged Fourier tensor is told by its hash") {
  const Copy copy(kV023 + "/morpho_fft_norm.cdnav3");
  copy.replace("morpho_config.json", "128.45812916755676", "128.46812916755676");
  check_failure(copy, Code::corrupt, "morpho_config.json", "config_sha256");
}

TEST_CASE("helix v3: an index that is not below k is refused with its place") {
  const Copy copy(kV023 + "/k16.cdnav3");
  std::string indices = copy.text("indices.bin");
  indices[3 * 200 + 7] = static_cast<char>(200);
  copy.write("indices.bin", indices);
  const Error error = failure_of(copy.path());
  INFO(error.describe());
  CHECK(error.code == Code::malformed);
  CHECK(error.item == "k16");
  CHECK(error.message.find("200") != std::string::npos);
  CHECK(error.message.find("row 3") != std::string::npos);
}

TEST_CASE("helix v3: indices of a wrong size are refused before they are read") {
  const Copy copy(kV023 + "/k16.cdnav3");
  copy.write("indices.bin", copy.text("indices.bin") + "x");
  check_failure(copy, Code::malformed, "indices.bin", "60001 bytes");
  copy.write("indices.bin", "x");
  check_failure(copy, Code::truncated, "indices.bin", "1 bytes");
  copy.remove("indices.bin");
  check_failure(copy, Code::malformed, "indices.bin", "not there");
}

TEST_CASE(
    "helix v3: without index_dtype, or with one that cannot be, the size of indices decides, and a note says so") {
  const Copy copy(kV023 + "/k512_uint16.cdnav3");
  copy.replace("meta.json", "\"index_dtype\": \"uint16\"", "\"index\": \"\"");
  const auto model = opened(copy.path());
  CHECK(has_note(*model, "no index_dtype, which stands for uint8, and the indices have 2 bytes each"));
  CHECK(sha256_hex(content_of(*model, 0)) == legacy_arrays("v3_dir_v023").at("k512_uint16").sha256);
  const Copy wrong(kV023 + "/k512_uint16.cdnav3");
  wrong.replace("meta.json", "\"index_dtype\": \"uint16\"", "\"index_dtype\": \"uint8\"");
  const auto read = opened(wrong.path());
  CHECK(has_note(*read, "index_dtype is uint8, and the indices have 2 bytes each"));
  CHECK(sha256_hex(content_of(*read, 0)) == legacy_arrays("v3_dir_v023").at("k512_uint16").sha256);
}

TEST_CASE("helix v3: half of the 16-bit indices are not 8-bit ones, nor are twice as many bytes 16-bit ones") {
  const Copy copy(kV023 + "/k512_uint16.cdnav3");
  copy.write("indices.bin", copy.text("indices.bin").substr(0, 60000));
  check_failure(copy, Code::truncated, "indices.bin", "uint16 need 120000");
  copy.replace("meta.json", "\"index_dtype\": \"uint16\"", "\"index\": \"\"");  // 512 entries say it.
  check_failure(copy, Code::truncated, "indices.bin", "uint16 need 120000");
  const Copy twice(kV023 + "/k16.cdnav3");
  twice.write("indices.bin", twice.text("indices.bin") + twice.text("indices.bin"));
  check_failure(twice, Code::malformed, "indices.bin", "uint8 need 60000");
}

TEST_CASE("helix v3: a sidecar that a rewritten tensor left behind is refused") {
  const Copy copy(kV023 + "/no_sidecar.cdnav3");
  copy.copy_in(kV023 + "/k64.cdnav3/sidecar.npz", "sidecar.npz");
  check_failure(copy, Code::malformed, "sidecar.npz", "stale");
  const Copy counted(kV023 + "/max_corrections_8.cdnav3");
  counted.copy_in(kV023 + "/k64.cdnav3/sidecar.npz", "sidecar.npz");
  check_failure(counted, Code::malformed, "sidecar.npz", "stats.json counts 8");
}

TEST_CASE("helix v3: a sidecar that is missing is noted, as the original reads on without") {
  const Copy copy(kV023 + "/k64.cdnav3");
  copy.remove("sidecar.npz");
  CHECK(has_note(*opened(copy.path()), "k64: stats.json counts 120 outliers"));
  copy.remove("stats.json");
  CHECK(has_note(*opened(copy.path()), "k64: meta.json says that there is a sidecar"));
  const Copy none(kV023 + "/no_sidecar.cdnav3");  // With sidecar_enabled false.
  none.remove("stats.json");
  CHECK_FALSE(has_note(*opened(none.path()), "meta.json says"));
}

TEST_CASE("helix v3: sidecar positions out of range are refused") {
  const Copy copy(kV023 + "/k64.cdnav3");
  copy.replace("stats.json", "\"shape\": [\n    300,", "\"x\": [\n    300,");
  copy.replace("meta.json", "\"shape\": [\n    300,\n    200\n  ]", "\"shape\": [3, 4]");
  copy.write("indices.bin", std::string(12, '\0'));
  check_failure(copy, Code::malformed, "sidecar.npz", "out of the range of 12 elements");
}

TEST_CASE("helix v3: a damaged sidecar archive is told by its checksum") {
  const Copy copy(kV023 + "/k64.cdnav3");
  std::string bytes = copy.text("sidecar.npz");
  bytes[100] = static_cast<char>(bytes[100] ^ 0x10);
  copy.write("sidecar.npz", bytes);
  const Error error = failure_of(copy.path());
  CHECK(error.file.ends_with("sidecar.npz"));
  CHECK(error.item == "k64");
}

TEST_CASE("helix v3: SVD of other shapes, and one that was left behind, are refused") {
  const Copy copy(kV023 + "/svd_rank4.cdnav3");
  copy.write("svd_s.npy", npy("<f4", "3,", std::string(12, '\0')));
  check_failure(copy, Code::malformed, "svd_U.npy", "[300, 4], [3], [4, 200]");
  copy.remove("svd_s.npy");
  check_failure(copy, Code::malformed, "svd_s.npy", "not there");
  const Copy headless(kV023 + "/svd_rank4.cdnav3");
  headless.remove("svd_U.npy");
  check_failure(headless, Code::malformed, "svd_U.npy", "other parts of the SVD are");
  headless.remove("svd_s.npy");
  headless.remove("svd_Vt.npy");
  CHECK(has_note(*opened(headless.path()), "svd_residual_rank is 4, and there is no svd_U.npy"));
  const Copy stale(kV023 + "/svd_rank4.cdnav3");
  stale.replace("meta.json", "\"svd_residual_rank\": 4", "\"svd_residual_rank\": 0");
  check_failure(stale, Code::malformed, "svd_U.npy", "stale");
}

TEST_CASE("helix v3: channel scales are undone, with a note; one of 0 or of another count is refused") {
  const Copy copy(kV023 + "/no_sidecar.cdnav3");
  const std::vector<float> before = decoded_planes(*opened(copy.path()), 0);
  std::vector<float> scales(200);
  for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = 0.5F + static_cast<float>(i) / 64;
  copy.write("channel_scales.npy", npy("<f4", "200,", bytes_of(scales)));
  const auto model = opened(copy.path());
  CHECK(has_note(*model, "no_sidecar: channel_scales.npy is undone"));
  const std::vector<float> after = decoded_planes(*model, 0);
  for (std::size_t i = 0; i < after.size(); ++i) REQUIRE(after[i] == before[i] / scales[i % 200]);
  scales[7] = 0;
  copy.write("channel_scales.npy", npy("<f4", "200,", bytes_of(scales)));
  CHECK(failure_of(copy.path()).message.find("channel scale 7 is 0") != std::string::npos);
  copy.write("channel_scales.npy", npy("<f4", "2,", std::string(8, '\1')));
  check_failure(copy, Code::malformed, "channel_scales.npy", "200 columns");
}

TEST_CASE("helix v3: a shape beyond its files is refused without memory for it") {
  const Copy copy(kV023 + "/k16.cdnav3");
  for (const std::string shape : {"[0, 5]", "[-1, 5]", "[1.5, 5]", "[60000]", "\"x\""}) {
    copy.write("meta.json",
               "{\"format_version\": \"cdna_v3\", \"tensor_name\": \"k16\", \"storage_mode\": \"codebook\", "
               "\"shape\": " +
                   shape + "}");
    CHECK(failure_of(copy.path()).code == Code::malformed);
  }
  copy.write("meta.json",
             "{\"format_version\": \"cdna_v3\", \"tensor_name\": \"k16\", \"storage_mode\": \"codebook\", "
             "\"shape\": [18446744073709551615, 18446744073709551615]}");
  CHECK(failure_of(copy.path()).code == Code::limit);
  copy.write("meta.json",
             "{\"format_version\": \"cdna_v3\", \"tensor_name\": \"k16\", \"storage_mode\": \"codebook\", "
             "\"shape\": [1048576, 1048576]}");
  CHECK(failure_of(copy.path()).code == Code::truncated);
}

TEST_CASE("helix v3: meta.json that is none, or of another format, is refused") {
  const Copy copy(kV023 + "/k16.cdnav3");
  copy.write("meta.json", "{\"format_version\": ");
  CHECK(failure_of(copy.path()).code == Code::malformed);
  copy.write("meta.json", "{\"format_version\": \"cdna_v4\", \"tensor_name\": \"a\"}");
  CHECK(failure_of(copy.path()).code == Code::unsupported);
  copy.write("meta.json", "{\"format_version\": \"cdna_v3\"}");
  CHECK(failure_of(copy.path()).code == Code::malformed);
  copy.write("meta.json", std::string(5 << 20, ' '));
  CHECK(failure_of(copy.path()).code == Code::limit);
}

TEST_CASE("helix v3: names that overwrote each other are told by the manifest") {
  const Copy copy(kHead);
  copy.replace("vq2d_k256.cdnav3/meta.json", "\"vq2d_k256\"", "\"vq2d.k256\"");
  const Error error = refusal_of(copy.path());
  CHECK(error.code == Code::malformed);
  CHECK(error.item == "vq2d.k256");
  CHECK(error.message.find("vq2d_k256 is here") != std::string::npos);
  const Copy shared(kHead);
  shared.replace("manifest_v3.json", "\"vq4d_k256.cdnav3\"", "\"vq2d_k256.cdnav3\"");
  CHECK(refusal_of(shared.path()).message.find("share \"vq2d_k256.cdnav3\"") != std::string::npos);
}

TEST_CASE("helix v3: a manifest's paths lead nowhere") {
  for (const std::string path : {"../vq2d_k256.cdnav3", "/etc", "..", "", "x/y"}) {
    const Copy copy(kHead);
    copy.replace("manifest_v3.json", "\"vq2d_k256.cdnav3\"", "\"" + path + "\"");
    const Error error = refusal_of(copy.path());
    CHECK(error.code == Code::malformed);
    CHECK(error.item == "vq2d_k256");
  }
}

TEST_CASE("helix v3: a manifest that lists what is not there, or lacks what is, is an error and a note") {
  const Copy copy(kHead);
  copy.remove("vq2d_k256.cdnav3");
  CHECK(refusal_of(copy.path()).message.find("is not there") != std::string::npos);
  const Copy more(kHead);
  std::filesystem::copy(kV023 + "/k16.cdnav3", more.path() + "/k16.cdnav3");
  const auto model = opened(more.path());
  CHECK(has_note(*model, "k16.cdnav3: not in manifest_v3.json"));
  CHECK(model->tensors().size() == 11);
}

TEST_CASE("helix v3: an array is called what its companion says, then the manifest, then its file, with a note") {
  const Copy copy(kHead);
  copy.remove("model_embed_tokens_weight.npy.meta.json");
  CHECK_FALSE(has_note(*opened(copy.path()), "its name is taken from the file"));
  number_of(*opened(copy.path()), "model.embed_tokens.weight");
  copy.remove("manifest_v3.json");
  const auto model = opened(copy.path());
  CHECK(has_note(*model, "model_embed_tokens_weight.npy: its name is taken from the file"));
  number_of(*model, "model_embed_tokens_weight");
}

TEST_CASE("helix v3: a folder without manifest is read, and a tensor that is there twice is refused") {
  const Copy copy(kHead);
  copy.remove("manifest_v3.json");
  CHECK(opened(copy.path())->tensors().size() == 10);
  std::filesystem::copy(kHead + "/vq2d_k256.cdnav3", copy.path() + "/again.cdnav3");
  CHECK(refusal_of(copy.path()).message.find("the tensor is also in") != std::string::npos);
}

TEST_CASE("helix v3: entries that are links out of the folder or no folders are not read") {
  const Copy copy(kHead);
  copy.remove("manifest_v3.json");
  copy.write("x.cdnav3", "");
  std::filesystem::create_symlink("/etc/passwd", copy.path() + "/stolen.json");
  const auto model = opened(copy.path());
  CHECK(has_note(*model, "x.cdnav3: not a folder"));
  CHECK(has_note(*model, "stolen.json: a link"));
  CHECK(model->assets().empty());
}

TEST_CASE("helix v3: the format can be asked for, and then is the only one") {
  ModelOptions options;
  options.format = ModelFormat::helix_v3;
  CHECK(opened(kHead, options)->tensors().size() == 10);
  CHECK(refusal_of(kLegacy + "hf_head_hxq", options).code == Code::not_found);
  CHECK(refusal_of(kLegacy + "README.md", options).code == Code::bad_argument);
}

namespace {

// Counts the bytes that are read.
class ReadCounter final : public FileSystem {
 public:
  std::uint64_t bytes = 0;
  int64_t pread(int fd, void* out, std::size_t size, std::uint64_t offset) override {
    const int64_t read = FileSystem::pread(fd, out, size, offset);
    if (read > 0) bytes += static_cast<std::uint64_t>(read);
    return read;
  }
};

}  // namespace

TEST_CASE("v3: a column-major array is read once for all of its pieces") {
  constexpr std::uint32_t kSide = 64;
  TemporaryFolder folder;
  std::string values;
  for (std::uint32_t column = 0; column < kSide; ++column) {
    for (std::uint32_t row = 0; row < kSide; ++row) {
      const std::uint32_t value = row * kSide + column;
      values.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
  }
  std::string file = npy("<i4", "64, 64", values);
  const std::size_t at = file.find("False, ");
  REQUIRE(at != std::string::npos);
  file.replace(at, 7, "True,  ");
  save_file(folder / "a.npy", std::as_bytes(std::span(file)));
  const std::string manifest = R"({"tensors":{}})";
  save_file(folder / "manifest_v3.json", std::as_bytes(std::span(manifest)));
  ReadCounter file_system;
  auto model = open_model(folder.path().string(), {}, file_system);
  if (!model) FAIL(model.error().describe());
  REQUIRE((*model)->tensors().size() == 1);
  file_system.bytes = 0;
  for (std::uint32_t i = 0; i < kSide * kSide; ++i) {
    std::uint32_t value = 0;
    REQUIRE((*model)->read(0, i * sizeof value, std::as_writable_bytes(std::span(&value, 1))));
    REQUIRE(value == i);
  }
  CHECK(file_system.bytes <= 2 * file.size());  // The header, which is part of it, and all of it.
}
