// The C functions of versions and of what this build is.
#include "cdna/version.hpp"

#include <string>

#include "bindings/c/boundary.hpp"
#include "cdna/build.hpp"

namespace cdna::c {
namespace {

constexpr std::uint32_t kFormatVersion = 3;

// What the pointers of cdna_build_info lead to. Asked once: all of it stays the same while the process runs.
Result<const BuildInfo*> known_build() {
  static const Result<BuildInfo> kInfo = [] {
    Result<BuildInfo> info = build_info();
    if (!info && info.error().code == Code::no_memory) throw std::bad_alloc();  // May be there the next time.
    return info;
  }();
  if (!kInfo) return kInfo.error();
  return &*kInfo;
}

Result<void> give_build(cdna_build_info* ret_info) {
  const BuildInfo& known = *CDNA_TRY(known_build());
  cdna_build_info info{};
  info.format_version = kFormatVersion;
  info.compiler = known.compiler.c_str();
  info.architecture = known.architecture.c_str();
  info.isa = known.isa.c_str();
  info.isas = known.isas.c_str();
  info.sha256 = known.sha256.c_str();
  info.libraries = known.libraries.c_str();
  return give_struct(info, ret_info, "ret_info");
}

}  // namespace
}  // namespace cdna::c

extern "C" {

uint32_t cdna_abi_version(void) { return CDNA_ABI_VERSION; }

const char* cdna_version(void) { return cdna::kLibraryVersion.data(); }

cdna_code cdna_build(cdna_build_info* ret_info, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::give_build(ret_info); });
}

}  // extern "C"
