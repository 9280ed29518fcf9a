// libcdna_cuda, loaded when somebody asks for a device: no tool links it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cdna/error.hpp"
#include "cdna_cuda.h"

namespace cdna::tools {

// The ordinal in "cuda" (0) or "cuda:N"; nothing in other texts.
std::optional<std::int32_t> cuda_ordinal(std::string_view device);

// The functions of the library that tools call.
struct CudaLibrary {
  decltype(&cdna_cuda_abi_version) abi_version = nullptr;
  decltype(&cdna_cuda_device_supported) device_supported = nullptr;
  decltype(&cdna_cuda_upload) upload = nullptr;
  decltype(&cdna_cuda_free) free = nullptr;
  decltype(&cdna_cuda_report) report = nullptr;
  decltype(&cdna_cuda_find) find = nullptr;
  decltype(&cdna_cuda_linear_host) linear_host = nullptr;

  // The library that CDNA_CUDA_LIBRARY names, else libcdna_cuda.so.1 where the system looks for libraries. Stays
  // loaded. Errors: not_found (no library, or one of another version; with what the loader says).
  static Result<CudaLibrary> load();
};

// An error of the library as those of cdna; a failing device is Code::io.
Error error_of(const cdna_cuda_error& error);

}  // namespace cdna::tools
