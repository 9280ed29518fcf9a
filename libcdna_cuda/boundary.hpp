// Between C and C++: errors, structs that may be of another version, and exceptions that stay inside.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "bindings/c/cdna_cuda.h"
#include "cdna/error.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna::cuda {

// Writes `error`, which may be null, and returns its code.
cdna_cuda_code tell(const Error& error, cdna_cuda_error* out) noexcept;

// Runs `work`, which returns Result<void>.
template <class Work>
cdna_cuda_code guarded(cdna_cuda_error* out, Work&& work) noexcept {
  try {
    const Result<void> result = no_throw(std::forward<Work>(work));
    return result ? CDNA_CUDA_OK : tell(result.error(), out);
  } catch (...) {
    return tell(fail(Code::io, "", "something unforeseen went wrong"), out);
  }
}

// A struct of the caller's, of this version or another. Errors: bad_argument (no struct_size, or fields set that this
// version does not know).
template <class Struct>
Result<Struct> take_struct(const Struct* given, const char* name) {
  Struct out{};
  if (given == nullptr) return fail(Code::bad_argument, "", std::string(name) + " is NULL");
  std::uint32_t size = 0;
  std::memcpy(&size, given, sizeof size);
  if (size < sizeof size) return fail(Code::bad_argument, "", std::string(name) + ": struct_size is not set");
  const auto* const bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t i = sizeof out; i < size; ++i) {
    if (bytes[i] != 0) return fail(Code::bad_argument, "", std::string(name) + " has a field of a later version set");
  }
  std::memcpy(&out, given, std::min<std::size_t>(size, sizeof out));
  return out;
}

// As much of `value` as the caller's struct has. Its struct_size stays. Errors: bad_argument.
template <class Struct>
Result<void> give_struct(const Struct& value, Struct* out, const char* name) {
  if (out == nullptr) return fail(Code::bad_argument, "", std::string(name) + " is NULL");
  std::uint32_t size = 0;
  std::memcpy(&size, out, sizeof size);
  if (size < sizeof size) return fail(Code::bad_argument, "", std::string(name) + ": struct_size is not set");
  const std::size_t end = std::min<std::size_t>(size, sizeof value);
  std::memcpy(reinterpret_cast<unsigned char*>(out) + sizeof size,
              reinterpret_cast<const unsigned char*>(&value) + sizeof size, end - sizeof size);
  return {};
}

}  // namespace cdna::cuda
