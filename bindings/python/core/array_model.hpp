// Arrays of Python's as a model that can be converted.
#pragma once

#include <nanobind/nanobind.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "buffer.hpp"
#include "cdna/import.hpp"

namespace cdna::python {

// Borrows the memory of its tensors and assets; made and destroyed with the GIL, read without.
class ArrayModel final : public Model {
 public:
  // tensors: (name, dtype, shape, bytes), sorted by the names' bytes; assets: (name, media type, bytes), likewise.
  ArrayModel(const nanobind::list& tensors, const nanobind::list& assets);

  std::span<const ModelTensor> tensors() const override { return tensors_; }
  Result<void> read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) const override;
  const Metadata& metadata() const override { return metadata_; }
  std::span<const ModelAsset> assets() const override { return assets_; }
  Result<void> read_asset(std::size_t asset, std::uint64_t offset, std::span<std::byte> out) const override;
  std::span<const std::string> notes() const override { return {}; }

 private:
  std::vector<ModelTensor> tensors_;
  std::vector<Borrowed> tensor_bytes_;
  std::vector<ModelAsset> assets_;
  std::vector<Borrowed> asset_bytes_;
  Metadata metadata_;
};

}  // namespace cdna::python
