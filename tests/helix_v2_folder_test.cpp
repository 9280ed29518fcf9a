// Folders of CDNA v2 files with a manifest: every tensor as its file has it, and no file from elsewhere.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "cdna/import.hpp"
#include "legacy_files.hpp"
#include "temporary_folder.hpp"

using namespace cdna;
using namespace cdna::test;
using namespace std::string_literals;
using Bytes = std::vector<std::byte>;

namespace {

const std::string kT = "v2_hxz/t300x200.zstd.br128";
const std::string kG = "v2_hxz/g96x64.brotli.br16";
const std::string kV1 = "v1_cdna/few64x64";
const std::string kTName = "blk.0.t300x200.weight";
const std::string kGName = "blk.0.g96x64.weight";

Bytes bytes_of_text(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

Bytes norm_array() {
  const std::string dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }\n";
  Bytes out = bytes_of_text("\x93NUMPY\x01\x00"s + static_cast<char>(dict.size()) + '\0' + dict);
  out.resize(out.size() + 12, std::byte{0x3F});
  return out;
}

// One tensor's entry of a manifest.
std::string matrix_entry(const std::string& name, const std::string& file, const std::string& original,
                         const std::string& stored) {
  return "\"" + name + R"(":{"format":"cdna_v2","file":")" + file + R"(","original_shape":)" + original +
         R"(,"cdna_shape":)" + stored + "}";
}

std::string array_entry(const std::string& name) {
  return "\"" + name + R"(":{"format":"npy","shape":[3],"dtype":"float32","bytes":12})";
}

class HelixFolder {
 public:
  HelixFolder() {
    save("t.cdna2.hxz", load_file(legacy(kT + ".cdna2.hxz")));
    save("g.cdna2.hxz", load_file(legacy(kG + ".cdna2.hxz")));
  }
  void save(const char* name, const Bytes& bytes) const { save_file(folder_ / name, bytes); }
  void save(const char* name, const std::string& text) const { save(name, bytes_of_text(text)); }
  // A manifest of `convert` with these entries.
  void save_manifest(const std::string& entries, const std::string& more = R"("model_id":"a/b",)") const {
    save("manifest.json", "{" + more + R"("format":"cdna_v2","codec":"zstd","tensors":{)" + entries + "}}");
  }
  void save_hybrid(const std::string& shards, const std::string& more = "") const {
    save("manifest.json", R"({"schema":"cdna_hybrid_manifest_v2",)" + more + R"("shards":[)" + shards + "]}");
  }
  std::unique_ptr<Model> open() const { return opened(open_model(folder_.path().string())); }
  Error error() const {
    const auto result = open_model(folder_.path().string());
    REQUIRE_FALSE(result.has_value());
    INFO(result.error().describe());
    CHECK_FALSE(result.error().file.empty());
    return result.error();
  }
  const std::filesystem::path& path() const { return folder_.path(); }

 private:
  TemporaryFolder folder_;
};

// Counts the descriptors that are open.
class CountingFileSystem final : public FileSystem {
 public:
  int open_max = 0;
  int opened = 0;
  int openat(int directory, const char* path, int flags, mode_t mode) override {
    const int fd = FileSystem::openat(directory, path, flags, mode);
    if (fd < 0) return fd;
    ++opened;
    open_max = std::max(open_max, ++open_);
    return fd;
  }
  int close(int fd) override {
    --open_;
    return FileSystem::close(fd);
  }
  int open() const { return open_; }

 private:
  int open_ = 0;
};

std::size_t number_of(const Model& model, const std::string& name) {
  const auto tensors = model.tensors();
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.name == name; });
  INFO(name);
  REQUIRE(found != tensors.end());
  return static_cast<std::size_t>(found - tensors.begin());
}

std::string digest_of_tensor(const Model& model, const std::string& name) {
  return digest_text(read_tensor(model, number_of(model, name), 4096));
}

}  // namespace

TEST_CASE("helix v2 folder: matrices in their original shapes, arrays, metadata and assets") {
  const HelixFolder folder;
  folder.save_manifest(matrix_entry(kTName, "t.cdna2.hxz", "[3,100,200]", "[300,200]") + "," +
                       matrix_entry(kGName, "g.cdna2.hxz", "[96,64]", "[96,64]") + "," +
                       array_entry("model.norm.weight"));
  folder.save("model.norm.weight.npy", norm_array());
  folder.save("config.json", "{}");
  const auto model = folder.open();
  REQUIRE(model->tensors().size() == 3);
  const ModelTensor& matrix = model->tensors()[number_of(*model, kTName)];
  CHECK(matrix.shape == std::vector<std::uint64_t>{3, 100, 200});
  CHECK(matrix.is_encoded);
  CHECK(digest_of_tensor(*model, kTName) == expected_digest(kT + ".decoded"));
  CHECK(digest_of_tensor(*model, kGName) == expected_digest(kG + ".decoded"));
  const std::size_t norm = number_of(*model, "model.norm.weight");
  CHECK_FALSE(model->tensors()[norm].is_encoded);
  CHECK(model->tensors()[norm].shape == std::vector<std::uint64_t>{3});
  CHECK(read_tensor(*model, norm, 5) == Bytes(12, std::byte{0x3F}));
  CHECK(std::get<std::string>(model->metadata().at("helix:model_id")) == "a/b");
  CHECK(std::get<std::string>(model->metadata().at("helix:codec")) == "zstd");
  CHECK(std::get<std::string>(model->metadata().at("cdna.source.integrity")) == "payload only");
  REQUIRE(model->assets().size() == 1);
  CHECK(model->assets().front().name == "config.json");
  REQUIRE(model->notes().size() == 1);
  CHECK(model->notes().front().starts_with("source integrity: payload only"));
}

TEST_CASE("helix v2 folder: of many files few are open at a time, and those that are read on stay open") {
  constexpr std::size_t kEach = 60;
  const HelixFolder folder;
  std::string entries;
  for (std::size_t i = 0; i < kEach; ++i) {
    const std::string number = std::to_string(i);
    folder.save(("m" + number + ".hxz").c_str(), load_file(legacy(kV1 + ".v021.cdna")));
    folder.save(("a" + number + ".npy").c_str(), norm_array());
    folder.save(("notes" + number + ".json").c_str(), number);
    entries += (i == 0 ? "" : ",") + matrix_entry("m" + number, "m" + number + ".hxz", "[64,64]", "[64,64]") + "," +
               array_entry("a" + number);
  }
  folder.save_manifest(entries);
  CountingFileSystem file_system;
  {
    const auto model = opened(open_model(folder.path().string(), {}, file_system));
    REQUIRE(model->tensors().size() == 2 * kEach);
    REQUIRE(model->assets().size() == kEach);
    for (std::size_t i = 0; i < kEach; ++i) {
      const std::string number = std::to_string(i);
      CHECK(digest_of_tensor(*model, "m" + number) == expected_digest(kV1 + ".v021.decoded"));
      const int before = file_system.opened;
      CHECK(read_tensor(*model, number_of(*model, "a" + number), 1) == Bytes(12, std::byte{0x3F}));
      CHECK(file_system.opened <= before + 1);
      const ModelAsset& asset = model->assets()[i];
      std::string text(asset.size_bytes, ' ');
      REQUIRE(model->read_asset(i, 0, std::as_writable_bytes(std::span(text))).has_value());
      CHECK(asset.name == "notes" + text + ".json");
    }
    CHECK(file_system.open_max <= 20);
  }
  CHECK(file_system.open() == 0);
}

TEST_CASE("helix v2 folder: a file that was replaced before it is read is an error") {
  const HelixFolder folder;
  std::string entries;
  for (std::size_t i = 0; i < 40; ++i) {
    folder.save(("a" + std::to_string(i) + ".npy").c_str(), norm_array());
    entries += (i == 0 ? "" : ",") + array_entry("a" + std::to_string(i));
  }
  folder.save_manifest(entries);
  folder.save("notes.json", "1");
  const auto model = folder.open();
  const std::size_t first = number_of(*model, "a0");
  folder.save("new", norm_array());
  std::filesystem::rename(folder.path() / "new", folder.path() / "a0.npy");
  Bytes bytes(12);
  const auto read = model->read(first, 0, bytes);
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().code == Code::io);
  CHECK(read.error().file == folder.path() / "a0.npy");
  CHECK(read.error().item == "a0");
  CHECK(model->read(number_of(*model, "a1"), 0, bytes).has_value());
}

TEST_CASE("helix v2 folder: arrays of GGUF have underscores in their file names") {
  const HelixFolder folder;
  folder.save_manifest(array_entry("blk.0.norm"), R"("source_gguf":"a.gguf",)");
  folder.save("blk_0_norm.npy", norm_array());
  const auto model = folder.open();
  CHECK(model->tensors().front().name == "blk.0.norm");
}

TEST_CASE("helix v2 folder: a name that became that of another tensor's file is an error that names both") {
  const HelixFolder folder;
  folder.save_manifest(matrix_entry(kTName, "t.cdna2.hxz", "[300,200]", "[300,200]") + "," +
                       matrix_entry("blk_0_t300x200_weight", "t.cdna2.hxz", "[300,200]", "[300,200]"));
  Error error = folder.error();
  CHECK(error.code == Code::malformed);
  CHECK(error.message.find("t.cdna2.hxz") != std::string::npos);
  folder.save_manifest(matrix_entry("a_b", "t.cdna2.hxz", "[300,200]", "[300,200]"));
  error = folder.error();
  CHECK(error.code == Code::malformed);
  CHECK(error.item == "a_b");
  CHECK(error.message.find(kTName) != std::string::npos);
}

TEST_CASE("helix v2 folder: no manifest leads to a file outside of its folder") {
  const HelixFolder folder;
  const TemporaryFolder elsewhere;
  save_file(elsewhere / "t.cdna2.hxz", load_file(legacy(kT + ".cdna2.hxz")));
  std::filesystem::create_symlink(elsewhere.path() / "t.cdna2.hxz", folder.path() / "link.cdna2.hxz");
  std::filesystem::create_directory_symlink(elsewhere.path(), folder.path() / "linked");
  const std::vector<std::string> names{"../" + elsewhere.path().filename().string() + "/t.cdna2.hxz",
                                       elsewhere / "t.cdna2.hxz",
                                       "link.cdna2.hxz",
                                       "linked/t.cdna2.hxz",
                                       "./t.cdna2.hxz",
                                       "a/../t.cdna2.hxz",
                                       "",
                                       ".",
                                       "..",
                                       "t.cdna2.hxz/"};
  for (const std::string& name : names) {
    INFO(name);
    folder.save_manifest(matrix_entry(kTName, name, "[300,200]", "[300,200]"));
    CHECK(folder.error().code == Code::malformed);
    folder.save_hybrid(R"({"tensor_name":")" + kTName + R"(","path":")" + name + R"(","shape":[300,200]})");
    CHECK(folder.error().code == Code::malformed);
  }
  folder.save_manifest(array_entry("../norm"));
  CHECK(folder.error().code == Code::malformed);
  folder.save_manifest(matrix_entry(kTName, "absent.hxz", "[300,200]", "[300,200]"));
  CHECK(folder.error().code == Code::not_found);
}

TEST_CASE("helix v2 folder: shapes that the manifest and the file do not agree on are errors") {
  const HelixFolder folder;
  for (const auto& [original, stored] :
       std::vector<std::pair<std::string, std::string>>{{"[300,201]", "[300,200]"},
                                                        {"[300,200]", "[200,300]"},
                                                        {"[0,300,200]", "[300,200]"},
                                                        {"[]", "[300,200]"},
                                                        {"[4294967296,4294967296,0]", "[300,200]"}}) {
    folder.save_manifest(matrix_entry(kTName, "t.cdna2.hxz", original, stored));
    const Error error = folder.error();
    CHECK(error.code == Code::malformed);
    CHECK(error.item == kTName);
  }
  folder.save_manifest(R"("n":{"format":"npy","shape":[4]})");
  folder.save("n.npy", norm_array());
  CHECK(folder.error().code == Code::malformed);
  folder.save_manifest(R"("n":{"format":"pickle"})");
  CHECK(folder.error().code == Code::unsupported);
}

TEST_CASE("helix v2 folder: a hybrid manifest with sidecars in their folder, stated, and beside") {
  const Bytes sidecar = load_file(legacy("hxzo/t300x200_p999.hxzo"));
  const std::string with_sidecar = expected_digest("v2_hxz/t300x200.brotli.br64.decoded_with_hxzo_sidecar");
  const std::string shard = R"({"tensor_name":")" + kTName + R"(","path":"t.cdna2.hxz","shape":[300,200])";
  {
    const HelixFolder folder;
    std::filesystem::create_directory(folder.path() / "sidecars");
    folder.save("sidecars/blk_0_t300x200_weight.hxzo", sidecar);
    folder.save_hybrid(shard + "}", R"("sidecar_dir":"sidecars","source_gguf":"a.gguf",)");
    const auto model = folder.open();
    CHECK(digest_of_tensor(*model, kTName) == with_sidecar);
    CHECK(std::get<std::string>(model->metadata().at("helix:source_gguf")) == "a.gguf");
  }
  {
    const HelixFolder folder;
    folder.save("some.hxzo", sidecar);
    folder.save_hybrid(shard + R"(,"outlier_sidecar_path":"some.hxzo"})");
    CHECK(digest_of_tensor(*folder.open(), kTName) == with_sidecar);
    folder.save_hybrid(shard + R"(,"outlier_sidecar_path":"../some.hxzo"})");
    CHECK(folder.error().code == Code::malformed);
    folder.save_hybrid(shard + R"(,"outlier_sidecar_path":"none.hxzo"})");
    CHECK(folder.error().code == Code::not_found);
    folder.save_hybrid(shard + "}", R"("sidecar_dir":"../x",)");
    CHECK(folder.error().code == Code::malformed);
  }
  {
    const HelixFolder folder;
    folder.save("t.hxzo", sidecar);
    folder.save_manifest(matrix_entry(kTName, "t.cdna2.hxz", "[300,200]", "[300,200]"));
    CHECK(digest_of_tensor(*folder.open(), kTName) == with_sidecar);
  }
}

TEST_CASE("helix v2 folder: it is its manifest that makes it one") {
  const HelixFolder folder;
  folder.save("config.json", "{}");
  for (const std::string text : {"{}", "[]", "not JSON", R"({"format":"cdna_v9"})"}) {
    folder.save("manifest.json", text);
    CHECK(folder.error().code == Code::not_found);  // A Hugging Face folder without weights.
    ModelOptions options;
    options.format = ModelFormat::helix_v2;
    const auto forced = open_model(folder.path().string(), options);
    REQUIRE_FALSE(forced.has_value());
    CHECK((forced.error().code == Code::malformed || forced.error().code == Code::unsupported));
    CHECK(forced.error().file.ends_with("manifest.json"));
  }
}
