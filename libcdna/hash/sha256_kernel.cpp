// Choice and call of the SHA-256 kernels.
#include "libcdna/hash/sha256_kernel.hpp"

#include <array>
#include <cassert>
#include <iterator>

#include "kernels/cpu/sha256.h"
#include "libcdna/hash/sha256.hpp"
#include "libcdna/kernel_choice.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace cdna {
namespace {

static_assert(sizeof(Digest) == 32, "the kernels write digests one after the other");

#if defined(__x86_64__)
bool has_sha_extensions() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ebx & bit_SHA) != 0;
}

cdna_sha256_many_function function_of(Sha256Kernel kernel) {
  switch (kernel) {
    case Sha256Kernel::avx2:
      return __builtin_cpu_supports("avx2") ? cdna_sha256_many_avx2 : nullptr;
    case Sha256Kernel::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") ? cdna_sha256_many_avx512
                                                                                     : nullptr;
    case Sha256Kernel::shani:
      return has_sha_extensions() && __builtin_cpu_supports("avx") ? cdna_sha256_many_shani : nullptr;
    default:
      return nullptr;
  }
}
#else
cdna_sha256_many_function function_of(Sha256Kernel) { return nullptr; }
#endif

// Asked once: under a hypervisor each question to the CPU costs microseconds.
cdna_sha256_many_function known_function_of(Sha256Kernel kernel) {
  static const auto functions = [] {
    std::array<cdna_sha256_many_function, std::size(kSha256Kernels)> found{};
    for (const Sha256Kernel each : kSha256Kernels) found[static_cast<std::size_t>(each)] = function_of(each);
    return found;
  }();
  return functions[static_cast<std::size_t>(kernel)];
}

constexpr const char* kVariable = "CDNA_SHA256";

const KernelChoice<Sha256Kernel>& choice() {
  // The last is the fastest on all machines known to have it.
  static const KernelChoice<Sha256Kernel> instance =
      choose_kernel<Sha256Kernel>(kSha256Kernels, kVariable, is_available);
  return instance;
}

}  // namespace

std::string_view name_of(Sha256Kernel kernel) {
  static constexpr std::string_view kNames[] = {"openssl", "avx2", "avx512", "shani"};
  return kNames[static_cast<std::size_t>(kernel)];
}

bool is_available(Sha256Kernel kernel) {
  return kernel == Sha256Kernel::openssl || known_function_of(kernel) != nullptr;
}

Sha256Kernel sha256_kernel() { return choice().kernel; }

std::string_view sha256_implementation() { return name_of(sha256_kernel()); }

Result<void> check_sha256_kernel() { return check_choice(choice(), kVariable); }

void sha256_many(Sha256Kernel kernel, std::span<const unsigned char* const> messages, std::size_t bytes,
                 std::span<Digest> digests) {
  assert(digests.size() == messages.size());
  if (kernel != Sha256Kernel::openssl) {
    return known_function_of(kernel)(messages.data(), messages.size(), bytes,
                                     reinterpret_cast<unsigned char*>(digests.data()));
  }
  for (std::size_t i = 0; i < messages.size(); ++i) {
    digests[i] = sha256(std::as_bytes(std::span(messages[i], bytes)));
  }
}

std::size_t least_count(Sha256Kernel kernel) { return kernel == Sha256Kernel::shani ? 2 : 4; }

}  // namespace cdna
