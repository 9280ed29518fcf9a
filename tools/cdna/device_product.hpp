// What `cdna matmul --device` does: uploads one tensor, multiplies on the device, and says how.
#pragma once

#include <cstdint>
#include <string>

#include "cdna/digest.hpp"
#include "cdna/matmul.hpp"
#include "cdna_cuda.h"

namespace cdna::tools {

struct DeviceRequest {
  std::string file;
  std::string tensor;
  Digest root{};  // Of the file that x, y and the rows were checked against: another one is refused.
  std::uint64_t row_begin = 0;
  std::uint64_t row_end = 0;  // > row_begin
  std::int32_t ordinal = 0;
  unsigned threads = 0;  // Of the upload.
  std::uint32_t trust = CDNA_CUDA_TRUST_AUTOMATIC;
  ConstMatrix x;  // F32, F16 or BF16: which is the arithmetic, too.
  Matrix y;       // Row-major, without gaps.
};

struct DeviceProduct {
  cdna_cuda_upload_report upload{};
  cdna_cuda_host_result product{};
};

// Errors: not_found (no library, no driver, no device that can be used), those of cdna_cuda_upload() and
// cdna_cuda_linear_host().
Result<DeviceProduct> multiply_on_device(const DeviceRequest& request);

// "stream", "block", "wgmma".
const char* loop_name(std::uint32_t loop);
// "read", "fill", "copy", "permute".
const char* stage_name(std::uint32_t stage);

}  // namespace cdna::tools
