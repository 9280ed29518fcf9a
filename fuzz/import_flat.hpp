// What must hold of a model that a flat file was accepted as.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cdna/encode.hpp"
#include "cdna/import.hpp"
#include "fuzz/open_file.hpp"

namespace cdna::fuzz {

// Larger tensors are legitimate and slow: a few bytes can be a matrix of one value.
inline constexpr std::uint64_t kCheckedBytesMax = std::uint64_t{1} << 22;

inline void check_refusal(const Error& error) {
  require(error.code < Code::io, "a refusal is a property of the file");
  require(!error.describe().empty(), "a refusal says what is wrong");
}

// Any piece of a tensor that can be read is the same as in the whole; planes decode to what is read.
inline void check_tensor(const Model& model, std::size_t number) {
  const ModelTensor& tensor = model.tensors()[number];
  std::uint64_t bits = bits_of(tensor.dtype);
  for (const std::uint64_t size : tensor.shape) bits *= size;
  require(tensor.size_bytes == (bits + 7) / 8, "the size is that of the shape");
  if (tensor.size_bytes > kCheckedBytesMax) return;
  std::vector<std::byte> whole(tensor.size_bytes);
  const auto read = model.read(number, 0, whole);
  if (!read) return check_refusal(read.error());
  std::vector<std::byte> piece(tensor.size_bytes / 3);
  const std::uint64_t at = tensor.size_bytes / 2;
  require(model.read(number, at, piece).has_value(), "what was read can be read again");
  require(std::equal(piece.begin(), piece.end(), whole.begin() + static_cast<std::ptrdiff_t>(at)),
          "a piece is part of the whole");
  if (!tensor.is_encoded) return;
  const auto held = model.read_planes(number);
  require(held.has_value(), "what was decoded has planes");
  std::vector<float> values(tensor.size_bytes / sizeof(float));
  decode(held->planes, tensor.dtype, tensor.shape.back(), 0, values);
  const auto decoded = std::as_bytes(std::span(values));
  require(std::equal(decoded.begin(), decoded.end(), whole.begin()), "the planes decode to the values");
}

inline void check_model(const Result<std::unique_ptr<Model>>& model) {
  if (!model) return check_refusal(model.error());
  const auto tensors = (*model)->tensors();
  for (std::size_t i = 0; i < tensors.size() && i < 16; ++i) {
    require(i == 0 || tensors[i - 1].name < tensors[i].name, "names ascend, so none is there twice");
    check_tensor(**model, i);
  }
}

}  // namespace cdna::fuzz
