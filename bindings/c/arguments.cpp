// What numbers and names from C may be.
#include "bindings/c/arguments.hpp"

#include <cerrno>
#include <cstdlib>
#include <limits>
#include <string>

#include "bindings/c/boundary.hpp"

namespace cdna::c {

Result<DType> need_dtype(std::uint32_t dtype, const char* name) {
  if (dtype == 0 || dtype > kDTypeLast)
    return bad_argument(std::string(name) + " " + std::to_string(dtype) + " is no element type");
  return static_cast<DType>(dtype);
}

Result<Codec> need_codec(std::uint32_t codec, const char* name) {
  if (codec > CDNA_CODEC_BROTLI)
    return bad_argument(std::string(name) + " " + std::to_string(codec) + " is not one of CDNA_CODEC_");
  return static_cast<Codec>(codec);
}

Result<Preset> need_preset(const char* preset, const char* name) {
  auto parsed = parse_preset(CDNA_TRY(text(preset, name)));
  if (!parsed && parsed.error().code == Code::bad_argument)
    return bad_argument(std::string(name) + " " + parsed.error().message);
  return parsed;
}

Result<void> need_zero(std::uint32_t reserved, const char* name) {
  if (reserved != 0) return bad_argument(std::string(name) + " is " + std::to_string(reserved));
  return {};
}

Error callback_failed(const char* what, std::int32_t returned) {
  Error error = fail(Code::io, "", what);
  error.os_errno = returned == std::numeric_limits<std::int32_t>::min() ? EIO : std::abs(returned);
  return error;
}

}  // namespace cdna::c
