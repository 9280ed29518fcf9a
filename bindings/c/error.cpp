// cdna_error, and its texts.
#include <cstdio>

#include "bindings/c/boundary.hpp"

namespace cdna::c {

cdna_code tell(const Error& error, cdna_error* out) noexcept {
  const auto code = static_cast<cdna_code>(error.code);
  if (out == nullptr) return code;
  *out = cdna_error{};
  out->code = code;
  out->os_errno = error.os_errno;
  out->block = error.block;
  out->offset = error.offset;
  out->plane = error.plane;
  put(out->rule, error.rule);
  try {
    put(out->tensor, escape(error.item));
    put(out->file, escape(error.file));
    put(out->message, escape(error.message));
  } catch (...) {
    put(out->message, "out of memory");
  }
  return code;
}

std::size_t copy_text(std::string_view text, char* out, std::size_t size) noexcept {
  if (out != nullptr && size != 0) {
    const std::size_t end = std::min(text.size(), size - 1);
    std::memcpy(out, text.data(), end);
    out[end] = 0;
  }
  return text.size();
}

}  // namespace cdna::c
