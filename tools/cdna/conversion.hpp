// Carries out a plan: all tensors and assets of a model into a container.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "cdna/import.hpp"
#include "cdna/writer.hpp"
#include "tools/cdna/plan.hpp"
#include "tools/progress.hpp"

namespace cdna::tools {

class Conversion {
 public:
  // The model and the plan outlive it. Metadata is that of the file to be.
  Conversion(const Model& model, const Plan& plan, Codec codec, Metadata metadata, Writer writer);

  // Writes everything and finishes the file. Ends with the progress line removed. Errors: those of Writer and Model.
  Result<Digest> run();

  // What became of a tensor. Requires: run() has succeeded.
  const WrittenItem& written(std::size_t tensor) const { return writer_.written(items_[tensor]); }

 private:
  std::uint64_t passes(const TensorPlan& tensor) const;
  Result<Digest> write_all();
  Result<void> read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out);
  Result<std::uint32_t> add_tensor(std::size_t i);

  const Model& model_;
  const Plan& plan_;
  Codec codec_;
  Metadata metadata_;
  Writer writer_;
  std::vector<std::uint32_t> items_;  // Item number in the container, per tensor.
  Progress progress_;
  std::thread::id thread_ = std::this_thread::get_id();
  std::atomic<std::uint64_t> done_bytes_{0};
  std::uint64_t all_bytes_ = 0;
};

}  // namespace cdna::tools
