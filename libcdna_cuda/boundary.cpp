// cdna::Error as the C interface has it.
#include "libcdna_cuda/boundary.hpp"

#include <string_view>

#include "libcdna_cuda/failure.hpp"

namespace cdna::cuda {
namespace {

// The text, cut before the first byte of a character that does not fit whole.
template <std::size_t size>
void put(char (&out)[size], std::string_view text) {
  std::size_t end = std::min(text.size(), size - 1);
  while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  std::memcpy(out, text.data(), end);
  std::memset(out + end, 0, size - end);
}

cdna_cuda_code code_of(const Error& error) {
  const bool out_of_memory = error.code == kDeviceFailure && error.os_errno == cudaErrorMemoryAllocation;
  return out_of_memory ? CDNA_CUDA_NO_MEMORY : static_cast<cdna_cuda_code>(error.code);
}

// What is wrong, then the file if there is one: of what does not fit, the end of its path goes.
std::string message_of(const Error& error) {
  return error.file.empty() ? error.message : error.message + ": " + escape(error.file);
}

}  // namespace

cdna_cuda_code tell(const Error& error, cdna_cuda_error* out) noexcept {
  const cdna_cuda_code code = code_of(error);
  if (out == nullptr) return code;
  const bool of_device = error.code == kDeviceFailure;
  *out = cdna_cuda_error{};
  out->code = code;
  out->os_errno = of_device ? 0 : error.os_errno;
  out->cuda_error = of_device ? error.os_errno : 0;
  out->plane = error.plane;
  out->block = error.block;
  out->offset = error.offset;
  put(out->rule, error.rule);
  try {
    put(out->tensor, escape(error.item));
    put(out->message, message_of(error));
  } catch (...) {
    put(out->message, "out of memory");
  }
  return code;
}

}  // namespace cdna::cuda

extern "C" const char* cdna_cuda_code_name(cdna_cuda_code code) {
  if (code == CDNA_CUDA_OK) return "ok";
  if (code == CDNA_CUDA_DEVICE) return "device";
  if (static_cast<cdna::Code>(code) == cdna::Code::exists) return "";  // Nothing here creates files.
  const std::string_view name = cdna::name_of(static_cast<cdna::Code>(code));
  return name == "unknown" ? "" : name.data();
}

extern "C" uint32_t cdna_cuda_abi_version(void) { return CDNA_CUDA_ABI_VERSION; }
