// What helix-substrate's own readers returned for the files of tests/legacy, and what an import gives.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cdna/encode.hpp"
#include "cdna/import.hpp"
#include "libcdna/hash/sha256.hpp"

namespace cdna::test {

inline const std::string kLegacy = CDNA_SOURCE_DIR "/tests/legacy/";

struct LegacyArray {
  std::vector<std::uint64_t> shape;
  std::string sha256;  // Of its bytes.
};

// The arrays of one folder of tests/legacy, by name behind "decoded/".
inline std::map<std::string, LegacyArray> legacy_arrays(const std::string& folder) {
  std::ifstream file(kLegacy + "expected.json");
  REQUIRE(file);
  const auto json = nlohmann::json::parse(file);
  std::map<std::string, LegacyArray> arrays;
  const std::string beginning = folder + "/decoded/";
  for (const auto& [key, value] : json.items()) {
    if (key.starts_with(beginning)) arrays[key.substr(beginning.size())] = {value["shape"], value["sha256"]};
  }
  REQUIRE_FALSE(arrays.empty());
  return arrays;
}

inline std::string file_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  INFO(path);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The compressor's name of a file for a tensor.
inline std::string file_name_of(std::string tensor) {
  std::replace_if(
      tensor.begin(), tensor.end(), [](char c) { return c == '.' || c == '/'; }, '_');
  return tensor;
}

inline std::unique_ptr<Model> opened(const std::string& path, const ModelOptions& options = {}) {
  auto model = open_model(path, options);
  if (!model) FAIL(model.error().describe());
  return *std::move(model);
}

inline Error refusal_of(const std::string& path, const ModelOptions& options = {}) {
  const auto model = open_model(path, options);
  INFO(path);
  REQUIRE_FALSE(model);
  return model.error();
}

inline std::size_t number_of(const Model& model, const std::string& name) {
  for (std::size_t i = 0; i < model.tensors().size(); ++i) {
    if (model.tensors()[i].name == name) return i;
  }
  FAIL("no tensor " << name);
  return 0;
}

// All bytes by Model::read(), in parts that do not end with rows.
inline std::vector<std::byte> content_of(const Model& model, std::size_t tensor) {
  constexpr std::size_t kPart = 10007;
  std::vector<std::byte> bytes(model.tensors()[tensor].size_bytes);
  for (std::size_t at = 0; at < bytes.size(); at += kPart) {
    const auto read = model.read(tensor, at, std::span(bytes).subspan(at, std::min(kPart, bytes.size() - at)));
    if (!read) FAIL(read.error().describe());
  }
  return bytes;
}

inline std::string sha256_hex(std::span<const std::byte> bytes) { return to_hex(sha256(bytes)); }
inline std::string sha256_hex(const std::vector<float>& values) { return sha256_hex(std::as_bytes(std::span(values))); }

// The values of planes as a whole.
inline std::vector<float> decoded_planes(const Model& model, std::size_t tensor) {
  const auto held = model.read_planes(tensor);
  if (!held) FAIL(held.error().describe());
  const auto& shape = model.tensors()[tensor].shape;
  std::vector<float> values(shape[0] * shape[1]);
  decode(held->planes, model.tensors()[tensor].dtype, shape[1], 0, values);
  return values;
}

inline bool has_note(const Model& model, const std::string& part) {
  return std::any_of(model.notes().begin(), model.notes().end(),
                     [&](const std::string& note) { return note.find(part) != std::string::npos; });
}

}  // namespace cdna::test
