// Launching a kernel of one argument.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#ifndef __CUDACC__
#include "emulator/launch.h"
#else

namespace cdna_cuda {

template <class Arguments>
cudaError_t launch(void (*kernel)(const Arguments), dim3 grid, dim3 block, std::size_t shared_bytes,
                   cudaStream_t stream, const Arguments& arguments) {
  if (shared_bytes > 48 * 1024) {
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shared_bytes));
    if (error != cudaSuccess) return error;
  }
  void* pointers[] = {const_cast<Arguments*>(&arguments)};
  return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block, pointers, shared_bytes, stream);
}

}  // namespace cdna_cuda

#endif
