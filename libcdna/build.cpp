// What the library says about itself and its machine.
#include "cdna/build.hpp"

#include <brotli/decode.h>
#include <openssl/crypto.h>
#include <zstd.h>

#include "libcdna/cpu.hpp"
#include "libcdna/hash/sha256_kernel.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#else
constexpr const char* kCompiler = "gcc " __VERSION__;
#endif

#if defined(__x86_64__)
constexpr const char* kArchitecture = "x86_64";
#elif defined(__aarch64__)
constexpr const char* kArchitecture = "aarch64";
#else
constexpr const char* kArchitecture = "other";
#endif

// The first two words: clang and OpenSSL add a date and a vendor.
std::string name_and_version(const std::string& text) {
  const std::size_t name_end = text.find(' ');
  return name_end == std::string::npos ? text : text.substr(0, text.find(' ', name_end + 1));
}

std::string available_isas() {
  std::string names;
  for (const Isa isa : kIsas) {
    if (is_available(isa)) names += (names.empty() ? "" : " ") + std::string(name_of(isa));
  }
  return names;
}

std::string brotli_version() {
  const std::uint32_t version = BrotliDecoderVersion();  // 8 bits, 12 and 12.
  return std::to_string(version >> 24) + "." + std::to_string(version >> 12 & 0xFFF) + "." +
         std::to_string(version & 0xFFF);
}

}  // namespace

Result<BuildInfo> build_info() {
  return no_throw([]() -> Result<BuildInfo> {
    CDNA_TRY(check_isa());
    CDNA_TRY(check_sha256_kernel());
    BuildInfo info;
    info.compiler = name_and_version(kCompiler);
    info.architecture = kArchitecture;
    info.isa = instruction_set();
    info.isas = available_isas();
    info.sha256 = sha256_implementation();
    info.libraries = "zstd " + std::string(ZSTD_versionString()) + ", brotli " + brotli_version() + ", " +
                     name_and_version(OpenSSL_version(OPENSSL_VERSION));
    return info;
  });
}

}  // namespace cdna
