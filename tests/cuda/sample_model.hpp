// The files that tests upload, and a call that multiplies with what is in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bindings/c/cdna_cuda.h"
#include "cdna/codec.hpp"

namespace cdna::test {

// One tensor of each preset ("layer.PRESET", [37, 300]), others of [50, 3, 70] ("other.PRESET"), a vector ("bias"), an
// alias ("tied"), an empty tensor.
std::vector<std::byte> model_bytes(Codec codec);

// One tensor, "w", [20, 200]: 4 bits, groups, outliers, several blocks.
std::vector<std::byte> small_model_bytes();

// y [m rows, y_stride apart] = x W^T in f32; rows of x follow each other.
cdna_cuda_linear_call linear_call(const std::vector<cdna_cuda_segment>& segments, const std::vector<float>& x,
                                  std::uint32_t m, std::vector<float>& y, std::int64_t y_stride);

}  // namespace cdna::test
