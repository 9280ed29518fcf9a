// Every vector of spec/vectors has the outcome that its JSON states (spec/format.md, section 19).
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "cdna/fsck.hpp"
#include "cdna/reader.hpp"
#include "libcdna/hash/sha256.hpp"

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

const fs::path kVectors = fs::path(CDNA_SOURCE_DIR) / "spec" / "vectors";

std::vector<std::byte> load_file(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

json load_json(const fs::path& path) {
  std::ifstream stream(path);
  return json::parse(stream);
}

std::vector<fs::path> documents(const fs::path& folder) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".json") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

fs::path vector_of(fs::path document) { return document.replace_extension(".cdna"); }

json outcome_of(const cdna::Error& error) { return {{"rule", error.rule}, {"class", cdna::name_of(error.code)}}; }

// All decoded bytes of an item, after all of its digests.
cdna::Result<std::vector<std::byte>> read_item(const cdna::Reader& reader, const cdna::Item& item) {
  if (auto result = item.verify(); !result) return result.error();
  std::vector<std::byte> bytes;
  if (item.kind() == cdna::ItemKind::tensor) {
    const cdna::Tensor tensor = reader.resolve(item);
    if (auto result = tensor.check_supported(); !result) return result.error();
    const cdna::DType dtype = tensor.encoding() == "cdna.exact" ? tensor.dtype() : cdna::DType::f32;
    bytes.resize(tensor.rows() * tensor.row_bytes(dtype));
    if (auto result = tensor.read_rows(0, tensor.rows(), dtype, bytes); !result) return result.error();
  } else {
    const auto* asset = static_cast<const cdna::Asset*>(&item);
    bytes.resize(asset->size_bytes());
    if (auto result = asset->read(0, bytes); !result) return result.error();
    if (item.kind() == cdna::ItemKind::metadata) {
      if (auto metadata = reader.metadata(); !metadata) return metadata.error();
    }
  }
  return bytes;
}

json item_outcome(const cdna::Reader& reader, std::uint32_t number) {
  const cdna::Asset item(reader.item(number));
  const auto kind = static_cast<std::uint16_t>(item.kind());
  const auto dtype = static_cast<std::uint8_t>(item.dtype());
  json out{
      {"number", number}, {"name", item.name()}, {"kind", kind}, {"shape", item.shape()}, {"encoding", item.type()}};
  out["dtype"] = dtype == 0                     ? "none"
                 : cdna::is_known(item.dtype()) ? std::string(cdna::name_of(item.dtype()))
                                                : std::to_string(dtype);
  out["alias_of"] = item.kind() == cdna::ItemKind::alias ? json(item.shape()[0]) : json(nullptr);
  out["decoded_sha256"] = nullptr;
  out["status"] = "ok";
  if (kind > 2) {
    if (auto result = item.verify(); !result) out["status"] = outcome_of(result.error());
    return out;
  }
  const auto bytes = read_item(reader, item);
  if (!bytes) {
    out["status"] = outcome_of(bytes.error());
  } else {
    out["decoded_sha256"] = cdna::to_hex(cdna::sha256(*bytes));
  }
  return out;
}

bool is_readable_or_unsupported(const json& status) {
  return status == "ok" || (status["class"] == "unsupported" && status["rule"].get<std::string>()[0] == 'U');
}

json deep_outcome(std::span<const std::byte> bytes, const std::optional<cdna::Digest>& expected_root) {
  cdna::FsckOptions options;
  options.level = cdna::FsckLevel::deep;
  options.expected_root = expected_root;
  const cdna::FsckReport report = cdna::fsck(cdna::memory_source(bytes), options);
  if (report.valid) return "clean";
  return outcome_of(report.problems.at(0).error);
}

// The document of section 19, from the library.
json examine(std::span<const std::byte> bytes, const cdna::OpenOptions& options, bool mapped) {
  json out{{"items", json::array()}, {"deep", nullptr}};
  const auto reader = cdna::Reader::open(cdna::memory_source(bytes, mapped), options);
  if (!reader) {
    out["open"] = outcome_of(reader.error());
    return out;
  }
  out["open"] = "ok";
  out["root"] = cdna::to_hex(reader->root());
  bool readable = true;
  for (std::uint32_t i = 0; i < reader->item_count(); ++i) {
    out["items"].push_back(item_outcome(*reader, i));
    readable = readable && is_readable_or_unsupported(out["items"].back()["status"]);
  }
  if (readable) out["deep"] = deep_outcome(bytes, options.expected_root);
  return out;
}

void check_folder(const char* name, std::size_t least) {
  const std::vector<fs::path> paths = documents(kVectors / name);
  CHECK(paths.size() >= least);
  for (const fs::path& path : paths) {
    INFO(path.filename().string());
    json expected = load_json(path);
    cdna::OpenOptions options;
    if (expected.contains("expected_root"))
      options.expected_root = cdna::digest_of(expected["expected_root"].get<std::string>());
    expected.erase("description");
    expected.erase("expected_root");
    const std::vector<std::byte> bytes = load_file(vector_of(path));
    for (const bool mapped : {true, false}) CHECK(examine(bytes, options, mapped).dump() == expected.dump());
  }
}

}  // namespace

TEST_CASE("conformance: every good vector decodes to the bytes that its document states") { check_folder("good", 40); }

TEST_CASE("conformance: every bad vector is refused by the rule that it breaks") { check_folder("bad", 60); }

TEST_CASE("conformance: damaged files are rebuilt to the stated bytes") {
  const std::vector<fs::path> paths = documents(kVectors / "recover");
  CHECK(paths.size() >= 3);
  for (const fs::path& path : paths) {
    INFO(path.filename().string());
    const json expected = load_json(path);
    const std::vector<std::byte> bytes = load_file(vector_of(path));
    std::vector<std::byte> out;
    const auto report = cdna::rebuild(*cdna::memory_source(bytes), cdna::memory_sink(out));
    REQUIRE(report);
    CHECK(report->complete == (expected["expect"] == "rebuilt"));
    CHECK(report->item_count == expected["items"].get<std::uint32_t>());
    CHECK(cdna::to_hex(cdna::sha256(out)) == expected["output_sha256"].get<std::string>());
    CHECK(cdna::fsck(cdna::memory_source(out), {cdna::FsckLevel::deep, {}, {}, 1, nullptr, {}}).valid);
  }
}

TEST_CASE("conformance: T10 what needs an unknown feature is not rebuilt into a file that cannot be opened") {
  const std::vector<std::byte> bytes = load_file(kVectors / "bad" / "T10_bit_63.cdna");
  std::vector<std::byte> out;
  const auto report = cdna::rebuild(*cdna::memory_source(bytes), cdna::memory_sink(out));
  REQUIRE(!report);
  CHECK(report.error().rule == std::string("T10"));
  CHECK(report.error().code == cdna::Code::unsupported);
  CHECK(out.empty());
}
