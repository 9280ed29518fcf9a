// launch() on the emulated device.
#pragma once

#include <cuda_runtime.h>

#include <functional>

namespace emulator {

// Queues the kernel, if the device could run it with such a grid.
cudaError_t launch(const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
                   std::function<void()> run_thread);

}  // namespace emulator

namespace cdna_cuda {

template <class Arguments>
cudaError_t launch(void (*kernel)(const Arguments), dim3 grid, dim3 block, std::size_t shared_bytes,
                   cudaStream_t stream, const Arguments& arguments) {
  const void* const function = reinterpret_cast<const void*>(kernel);
  if (shared_bytes > 48 * 1024) {
    const cudaError_t error =
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
    if (error != cudaSuccess) return error;
  }
  return emulator::launch(function, grid, block, shared_bytes, stream, [kernel, arguments] { kernel(arguments); });
}

}  // namespace cdna_cuda
