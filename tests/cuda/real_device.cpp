// A real device as the one that uploads are tested on, and the main function of these tests: without a device they are
// skipped, with the reason.
#define CATCH_CONFIG_RUNNER
#include <cuda_runtime.h>

#include <catch2/catch.hpp>
#include <cstdio>

#include "fresh_device.hpp"

namespace cdna::test {

FreshDevice::FreshDevice() = default;
FreshDevice::~FreshDevice() = default;

// An error of a kernel stays: every later call has it too.
std::string device_faults() {
  const cudaError_t error = cudaDeviceSynchronize();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

}  // namespace cdna::test

int main(int argument_count, char** arguments) {
  constexpr int kSkipped = 77;  // To meson.
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver) {
    std::printf("Skipped: %s.\n", cudaGetErrorString(error));
    return kSkipped;
  }
  if (error != cudaSuccess) {
    std::printf("The device cannot be used: %s.\n", cudaGetErrorString(error));
    return 1;
  }
  return Catch::Session().run(argument_count, arguments);
}
