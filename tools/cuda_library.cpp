// By dlopen.
#include "tools/cuda_library.hpp"

#include <dlfcn.h>

#include <charconv>
#include <cstdlib>
#include <mutex>
#include <set>
#include <string>

namespace cdna::tools {
namespace {

Error not_found(std::string message) {
  Error error;
  error.code = Code::not_found;
  error.message = std::move(message);
  return error;
}

// The static storage that Error::rule wants: of each rule that was ever told, there are few.
const char* kept_rule(const char* rule) {
  static std::mutex mutex;
  static std::set<std::string> kept;
  const std::lock_guard lock(mutex);
  return kept.emplace(rule).first->c_str();
}

}  // namespace

std::optional<std::int32_t> cuda_ordinal(std::string_view device) {
  if (device == "cuda") return 0;
  constexpr std::string_view kPrefix = "cuda:";
  if (device.substr(0, kPrefix.size()) != kPrefix) return std::nullopt;
  const std::string_view digits = device.substr(kPrefix.size());
  std::int32_t ordinal = -1;
  const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), ordinal);
  if (end.ec != std::errc{} || end.ptr != digits.data() + digits.size() || ordinal < 0) return std::nullopt;
  return ordinal;
}

Result<CudaLibrary> CudaLibrary::load() {
  const char* const named = std::getenv("CDNA_CUDA_LIBRARY");
  const char* const path = named != nullptr && *named != '\0' ? named : "libcdna_cuda.so.1";
  void* const library = ::dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return not_found(std::string("--device cuda needs the library libcdna_cuda: ") + ::dlerror());
  CudaLibrary out;
  bool complete = true;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(library, name));
    complete = complete && function != nullptr;
  };
  find(out.abi_version, "cdna_cuda_abi_version");
  find(out.device_supported, "cdna_cuda_device_supported");
  find(out.upload, "cdna_cuda_upload");
  find(out.free, "cdna_cuda_free");
  find(out.report, "cdna_cuda_report");
  find(out.find, "cdna_cuda_find");
  find(out.linear_host, "cdna_cuda_linear_host");
  constexpr std::uint32_t kMinorBits = 16;
  if (!complete || out.abi_version() >> kMinorBits != CDNA_CUDA_ABI_VERSION >> kMinorBits ||
      out.abi_version() < CDNA_CUDA_ABI_VERSION)
    return not_found(std::string(path) + " is no libcdna_cuda of this version");
  return out;
}

Error error_of(const cdna_cuda_error& error) {
  Error out;
  out.code = error.code == CDNA_CUDA_DEVICE ? Code::io : static_cast<Code>(error.code);
  out.rule = kept_rule(error.rule);
  out.message = error.message;
  out.item = error.tensor;
  out.plane = error.plane;
  out.block = error.block;
  out.offset = error.offset;
  out.os_errno = error.os_errno;
  return out;
}

}  // namespace cdna::tools
