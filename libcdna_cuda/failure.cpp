// What CUDA says went wrong, in words that name what was tried.
#include "libcdna_cuda/failure.hpp"

#include <utility>

#include "libcdna/try.hpp"

namespace cdna::cuda {
namespace {

// Why there is no device at all. Errors of the count are of the driver, or of its absence.
Result<int> device_count() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) (void)cudaGetLastError();  // Told here: not to be found by somebody else's next look.
  if (error == cudaErrorInsufficientDriver) {
    int runtime = 0;
    if (cudaRuntimeGetVersion(&runtime) != cudaSuccess) (void)cudaGetLastError();
    return fail(Code::unsupported, "",
                "the NVIDIA driver is missing or too old for CUDA " + std::to_string(runtime / 1000) + "." +
                    std::to_string(runtime % 1000 / 10));
  }
  if (error == cudaErrorNoDevice) return fail(Code::unsupported, "", "there is no CUDA device");
  if (error != cudaSuccess) return device_failure(error, "counting the CUDA devices");
  return count;
}

}  // namespace

Error device_failure(cudaError_t error, std::string what) {
  Error out = fail(kDeviceFailure, "",
                   std::move(what) + ": " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")");
  out.os_errno = static_cast<std::int32_t>(error);
  return out;
}

Result<void> check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return {};
  (void)cudaGetLastError();
  return device_failure(error, what);
}

Result<void> check(const cdna_cuda::Outcome& outcome) {
  switch (outcome.status) {
    case cdna_cuda::Status::ok:
      return {};
    case cdna_cuda::Status::bad_argument:
      return fail(Code::bad_argument, "", outcome.reason);
    case cdna_cuda::Status::unsupported:
      return fail(Code::unsupported, "", outcome.reason);
    case cdna_cuda::Status::device_error:
      break;
  }
  return check(outcome.cuda == cudaSuccess ? cudaErrorUnknown : outcome.cuda, outcome.reason);
}

Result<cdna_cuda::Device> usable_device(int ordinal) {
  const int count = CDNA_TRY(device_count());
  if (count <= 0) return fail(Code::unsupported, "", "there is no CUDA device");
  if (ordinal < 0 || ordinal >= count) {
    return fail(Code::not_found, "",
                "there is no CUDA device " + std::to_string(ordinal) + ": the last is " + std::to_string(count - 1));
  }
  cdna_cuda::Device device;
  CDNA_TRY(check(cdna_cuda::query_device(ordinal, &device)));
  return device;
}

}  // namespace cdna::cuda
