// From a file to a device: verified, staged, copied and brought in order at the same time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "cdna/digest.hpp"
#include "cdna/reader.hpp"
#include "libcdna_cuda/model.hpp"
#include "libcdna_cuda/tensor_plan.hpp"

namespace cdna::cuda {

struct UploadOptions {
  int ordinal = 0;
  cudaStream_t stream = nullptr;
  Slice slice;
  std::uint64_t pinned_bytes = std::uint64_t{64} << 20;
  std::uint64_t device_bytes_max = 0;  // 0: no limit.
  unsigned threads = 0;
  Trust trust = Trust::automatic;
  std::optional<Digest> expected_root;
  // Of bytes done and of all; false cancels.
  std::function<bool(std::uint64_t, std::uint64_t)> progress;
};

// As cdna_cuda_upload() says. `pattern` may be empty: all.
Result<std::unique_ptr<Model>> upload(const std::string& path, const std::optional<std::string>& pattern,
                                      const UploadOptions& options);

}  // namespace cdna::cuda
