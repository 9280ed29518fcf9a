// A matrix of helix-substrate and its sidecar in one input.
#pragma once

#include <utility>

#include "fuzz/import_flat.hpp"
#include "libcdna/import/helix/helix_model.hpp"

namespace cdna::fuzz {

using OpenMatrix = Result<std::unique_ptr<HxzMatrix>> (*)(std::unique_ptr<Source>);

// The last two bytes are the sidecar's length, little-endian; before them is the sidecar, before that the matrix.
inline void check_helix(std::span<const std::byte> input, OpenMatrix open_matrix) {
  if (input.size() < 2) return;
  const std::size_t stated = std::to_integer<std::size_t>(input[input.size() - 2]) |
                             std::to_integer<std::size_t>(input[input.size() - 1]) << 8;
  const std::span<const std::byte> files = input.first(input.size() - 2);
  const std::span<const std::byte> sidecar_bytes = files.last(std::min(stated, files.size()));
  auto matrix = open_matrix(memory_source(files.first(files.size() - sidecar_bytes.size()), false));
  auto sidecar = read_hxzo(*memory_source(sidecar_bytes, false));
  if (!sidecar) check_refusal(sidecar.error());
  if (!matrix) return check_refusal(matrix.error());
  std::string name = (*matrix)->header().tensor_name;
  // A v1 matrix is called as its file.
  if (name.empty()) name = sidecar && !sidecar->tensor_name.empty() ? sidecar->tensor_name : "w";
  auto tensor = helix_tensor(*std::move(matrix), std::move(name), std::nullopt);
  require(tensor.has_value(), "a matrix has its own shape");
  std::vector<std::string> notes;
  if (sidecar) {
    const auto joined = join_sidecar(*std::move(sidecar), *tensor, true, notes);
    if (!joined) check_refusal(joined.error());
  }
  std::vector<HelixTensor> tensors;
  tensors.push_back(*std::move(tensor));
  check_model(std::unique_ptr<Model>(
      std::make_unique<HelixModel>(std::move(tensors), Metadata(), std::vector<AssetFile>(), std::move(notes))));
}

}  // namespace cdna::fuzz
