// Failures of the CUDA runtime and of kernels as cdna::Error: the code is kDeviceFailure, os_errno CUDA's number.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "cdna/error.hpp"
#include "kernels/cuda/linear.h"

namespace cdna::cuda {

inline constexpr Code kDeviceFailure = static_cast<Code>(64);  // CDNA_CUDA_DEVICE

// `what` did not work: "allocating 5 bytes on the device".
Error device_failure(cudaError_t error, std::string what);

// Nothing, or the failure of a call.
Result<void> check(cudaError_t error, const char* what);
Result<void> check(const cdna_cuda::Outcome& outcome);

// Facts of a device that can be used. Errors: unsupported (no driver, too old a driver, below compute capability 8.0),
// not_found (no such device), device failures.
Result<cdna_cuda::Device> usable_device(int ordinal);

}  // namespace cdna::cuda
