// The files in tests/legacy, and what their own readers returned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/import.hpp"

namespace cdna::test {

// Path of a file or folder.
std::string legacy(const std::string& name);

std::vector<std::byte> load_file(const std::string& path);

// Hexadecimal SHA-256 of an array in expected.json. Fails the test where there is none.
std::string expected_digest(const std::string& array);
std::vector<std::uint64_t> expected_shape(const std::string& array);

std::string digest_text(std::span<const std::byte> bytes);

// All bytes of a tensor, read in pieces of `step` bytes.
std::vector<std::byte> read_tensor(const Model& model, std::size_t tensor, std::size_t step);

// The model, or a failed test with the error.
std::unique_ptr<Model> opened(Result<std::unique_ptr<Model>> result);

// The values that an encoded tensor's planes decode to.
std::vector<float> decoded_planes(const Model& model, std::size_t tensor);

}  // namespace cdna::test
