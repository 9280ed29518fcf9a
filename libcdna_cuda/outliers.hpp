// The outliers of a tensor, gathered from its blocks, in the order in which kernels go through them.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "cdna/reader.hpp"
#include "libcdna_cuda/tensor_plan.hpp"

namespace cdna::cuda {

constexpr float kF16Max = 65504;  // kernels/cuda/linear.h: what fits f16.

struct Outlier {
  std::uint64_t tile = 0;
  std::uint32_t place = 0;  // column << 4 | row % 16, as kernels have it.
  float value = 0;
  float delta = 0;  // RN(value - decoded).
};

// The arrays of kernels/cuda/linear.h.
struct OutlierArrays {
  std::vector<std::uint32_t> begin;  // [tiles + 1]
  std::vector<std::uint32_t> places;
  std::vector<float> values;
  std::vector<float> deltas;
};

class Outliers {
 public:
  // Takes those of a block that are in the rows of the plan. Threads: any. Errors: malformed D1 (not finite),
  // unsupported (not finite as f32), both with the tensor and the block.
  Result<void> add(const TensorPlan& plan, const Block& block);

  // In the order of tiles, in a tile by column, then row. Takes them out.
  OutlierArrays take_arrays(const TensorPlan& plan);

  // Whether all values divided by their row's scale are binary16 numbers, about.
  bool fit_f16() const { return fit_f16_; }

 private:
  std::mutex mutex_;
  std::vector<Outlier> outliers_;
  bool fit_f16_ = true;
};

// "D1: plane `role`, block `block` of the tensor holds what is not finite", as an error with its place.
Error not_finite(const TensorPlan& plan, std::uint16_t role, std::uint64_t block, const char* what);

}  // namespace cdna::cuda
