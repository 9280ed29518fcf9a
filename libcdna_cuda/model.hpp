// Tensors on a device: what upload leaves and products read.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/c/cdna_cuda.h"
#include "kernels/cuda/linear.h"
#include "libcdna_cuda/device_memory.hpp"

namespace cdna::cuda {

// Names of one are those of its aliases too.
struct TensorOnDevice {
  std::vector<std::uint64_t> shape;
  cdna_cuda_tensor_info info{};  // Without name and shape.
  cdna_cuda::Weights weights;    // Of a codebook tensor.
};

struct NamedTensor {
  std::string name;
  std::size_t tensor = 0;  // Of Model::tensors.
};

struct Model {
  int ordinal = 0;
  cdna_cuda::Device device;
  DeviceMemory memory;
  std::vector<TensorOnDevice> tensors;
  std::vector<NamedTensor> names;  // By name.
  cdna_cuda_upload_report report{};

  std::optional<std::uint64_t> find(std::string_view name) const;
};

}  // namespace cdna::cuda

struct cdna_cuda_model {
  cdna::cuda::Model model;
};
