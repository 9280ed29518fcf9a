// Reads expected.json once.
#include "legacy_files.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "cdna/encode.hpp"
#include "libcdna/hash/sha256.hpp"

namespace cdna::test {
namespace {

const nlohmann::json& expected(const std::string& array) {
  static const nlohmann::json all = nlohmann::json::parse(std::ifstream(legacy("expected.json")));
  INFO(array);
  REQUIRE(all.contains(array));
  return all.at(array);
}

}  // namespace

std::string legacy(const std::string& name) { return std::string(CDNA_SOURCE_DIR) + "/tests/legacy/" + name; }

std::vector<std::byte> load_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  INFO(path);
  REQUIRE(stream);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

std::string expected_digest(const std::string& array) { return expected(array).at("sha256"); }

std::vector<std::uint64_t> expected_shape(const std::string& array) { return expected(array).at("shape"); }

std::string digest_text(std::span<const std::byte> bytes) { return to_hex(sha256(bytes)); }

std::vector<std::byte> read_tensor(const Model& model, std::size_t tensor, std::size_t step) {
  std::vector<std::byte> bytes(model.tensors()[tensor].size_bytes);
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    const auto piece = std::span(bytes).subspan(at, std::min(step, bytes.size() - at));
    const auto read = model.read(tensor, at, piece);
    if (!read) FAIL(read.error().describe());
  }
  return bytes;
}

std::unique_ptr<Model> opened(Result<std::unique_ptr<Model>> result) {
  if (!result) FAIL(result.error().describe());
  return *std::move(result);
}

std::vector<float> decoded_planes(const Model& model, std::size_t tensor) {
  const ModelTensor& description = model.tensors()[tensor];
  REQUIRE(description.is_encoded);
  const auto held = model.read_planes(tensor);
  if (!held) FAIL(held.error().describe());
  std::vector<float> values(description.size_bytes / (bits_of(description.dtype) / 8));
  const std::uint64_t cols = description.shape.empty() ? 1 : description.shape.back();
  decode(held->planes, description.dtype, cols, 0, values);
  return values;
}

}  // namespace cdna::test
