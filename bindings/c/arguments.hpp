// Numbers and names from C as the library's types.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "cdna/codec.hpp"
#include "cdna/dtype.hpp"
#include "cdna/error.hpp"
#include "cdna/preset.hpp"

namespace cdna::c {

// Errors: bad_argument (names the argument and its value).
Result<DType> need_dtype(std::uint32_t dtype, const char* name);
Result<Codec> need_codec(std::uint32_t codec, const char* name);
Result<Preset> need_preset(const char* preset, const char* name);

// That a reserved field is 0. Errors: bad_argument.
Result<void> need_zero(std::uint32_t reserved, const char* name);

// "safetensors, gguf, npz": for messages.
template <class Format>
std::string names_of(std::span<const Format> formats) {
  std::string names;
  for (const Format format : formats) names += (names.empty() ? "" : ", ") + std::string(name_of(format));
  return names;
}

// Of a callback of the caller's that returned what is not 0: an errno, with either sign.
Error callback_failed(const char* what, std::int32_t returned);

}  // namespace cdna::c
