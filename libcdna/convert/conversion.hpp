// Carries out a plan: all tensors and assets of a model into a container.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cdna/convert.hpp"
#include "libcdna/convert/progress.hpp"

namespace cdna {

// Of the file to be: the source's, and "cdna.options".
Metadata metadata_of(const Model& model, const Plan& plan);

// Errors: those of Writer::add_asset.
Result<void> add_assets(const Model& model, Codec codec, Writer& writer);

class Conversion {
 public:
  // All but the writer outlive it.
  Conversion(const Model& model, const Plan& plan, const ProgressCallback& progress, Writer writer);

  // Writes all tensors and assets. Errors: those of Writer and Model.
  Result<void> write_items();
  // What is left, last: the file is there with its success. Errors: those of Writer::finish.
  Result<Digest> finish();

  // What became of a tensor. Requires: write_items() has succeeded.
  const WrittenItem& written(std::size_t tensor) const { return writer_.written(items_[tensor]); }
  const std::optional<SourceCodes>& codes(std::size_t tensor) const { return codes_[tensor]; }

 private:
  Result<void> read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out);
  Result<std::uint32_t> add_tensor(std::size_t i);
  Result<std::uint32_t> add_encoded(std::size_t i, const TensorSpec& spec);

  const Model& model_;
  const Plan& plan_;
  Writer writer_;
  std::vector<std::uint32_t> items_;  // Item number in the container, per tensor.
  std::vector<std::optional<SourceCodes>> codes_;
  Progress progress_;
  std::atomic<std::uint64_t> done_bytes_{0};
};

}  // namespace cdna
