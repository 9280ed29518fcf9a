// Versions and build information in C.
#include "cdna/version.hpp"

#include <openssl/crypto.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>

#include "cdna.h"
#include "cdna/cpu.hpp"
#include "cdna/digest.hpp"

namespace {

// Runs one case of this program with a variable set, and returns its exit status.
int run_with(const char* variable, const char* value, const char* name) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv(variable, value, 1);
    ::execl("/proc/self/exe", "version_test", name, static_cast<char*>(nullptr));
    ::_exit(99);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

cdna_build_info build_of_library() {
  cdna_build_info info{};
  info.struct_size = sizeof info;
  REQUIRE(cdna_build(&info, nullptr) == CDNA_OK);
  return info;
}

}  // namespace

TEST_CASE("version: library and header are of one version") {
  CHECK(cdna_abi_version() == CDNA_ABI_VERSION);
  CHECK(cdna_version() == cdna::kLibraryVersion);
}

TEST_CASE("version: the build says what is in use, and what this machine has") {
  const cdna_build_info info = build_of_library();
  CHECK(info.struct_size == sizeof info);
  CHECK(info.format_version == 3);
  CHECK(std::string_view(info.isa) == cdna::instruction_set());
  CHECK(std::string_view(info.sha256) == cdna::sha256_implementation());
  const std::string expected = "zstd " + std::string(ZSTD_versionString()) + ", brotli ";
  CHECK(std::string(info.libraries).substr(0, expected.size()) == expected);
  CHECK(std::string(info.libraries).find(", OpenSSL " + std::to_string(OPENSSL_version_major()) + ".") !=
        std::string::npos);
  CHECK_THAT(info.compiler, Catch::StartsWith("gcc ") || Catch::StartsWith("clang "));
#if defined(__x86_64__)
  CHECK(std::string_view(info.architecture) == "x86_64");
  std::ifstream in("/proc/cpuinfo");
  const std::string cpu((std::istreambuf_iterator<char>(in)), {});
  const auto has = [&](const char* isa) {
    return (" " + std::string(info.isas) + " ").find(" " + std::string(isa) + " ") != std::string::npos;
  };
  CHECK(has("baseline"));
  CHECK(has("avx2") == (cpu.find(" avx2 ") != std::string::npos));
  CHECK(has(info.isa));
#endif
}

TEST_CASE("version: build info of other sizes") {
  const cdna_build_info whole = build_of_library();
  struct Later {
    cdna_build_info info;
    std::array<unsigned char, 16> more;
  } later{};
  later.info.struct_size = sizeof later;
  later.more.fill(0x5A);
  CHECK(cdna_build(&later.info, nullptr) == CDNA_OK);
  CHECK(std::string_view(later.info.libraries) == whole.libraries);
  CHECK(std::all_of(later.more.begin(), later.more.end(), [](unsigned char byte) { return byte == 0x5A; }));

  cdna_build_info earlier{};
  earlier.struct_size = offsetof(cdna_build_info, isa);
  CHECK(cdna_build(&earlier, nullptr) == CDNA_OK);
  CHECK(earlier.compiler == whole.compiler);
  CHECK(earlier.architecture == whole.architecture);
  CHECK(earlier.isa == nullptr);

  cdna_error error{};
  CHECK(cdna_build(nullptr, &error) == CDNA_BAD_ARGUMENT);
  CHECK(error.code == CDNA_BAD_ARGUMENT);
  CHECK_THAT(error.message, Catch::Contains("ret_info"));
  cdna_build_info none{};
  CHECK(cdna_build(&none, &error) == CDNA_BAD_ARGUMENT);
  CHECK(none.compiler == nullptr);
}

// Run by the next case, in a process of its own.
TEST_CASE("version: wrong environment", "[.environment]") {
  cdna_build_info info{};
  info.struct_size = sizeof info;
  cdna_error error{};
  CHECK(cdna_build(&info, &error) == CDNA_BAD_ARGUMENT);
  CHECK_THAT(error.message, Catch::Contains("nonsense"));
  CHECK(info.compiler == nullptr);
  CHECK(cdna_build(&info, nullptr) == CDNA_BAD_ARGUMENT);
}

TEST_CASE("version: kernels that the environment asks for", "[.baseline]") {
  CHECK(std::string_view(build_of_library().isa) == "baseline");
}

TEST_CASE("version: variables that name nothing are errors") {
  CHECK(run_with("CDNA_CPU", "nonsense", "[.environment]") == 0);
  CHECK(run_with("CDNA_SHA256", "nonsense", "[.environment]") == 0);
  CHECK(run_with("CDNA_CPU", "baseline", "[.baseline]") == 0);
}
