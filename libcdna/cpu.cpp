// Choice of the instruction set.
#include "libcdna/cpu.hpp"

#include <array>
#include <cstddef>
#include <iterator>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "libcdna/kernel_choice.hpp"

namespace cdna {
namespace {

#if defined(__x86_64__)
// clang 14 does not know F16C by name: CPUID leaf 1, ECX bit 29.
bool has_f16c() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 29 & 1) != 0;
}

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
}

constexpr long kTileData = 18;  // The state's number (Linux, Documentation/arch/x86/xstate.rst).

// Compilers before 2023 do not know AMX by name: CPUID leaf 7, EDX bits 22 (BF16) and 24 (TILE).
bool has_amx() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  constexpr unsigned kTiles = 1U << 22 | 1U << 24;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & kTiles) != kTiles) return false;
  constexpr long kArchGetSupported = 0x1021;
  std::uint64_t supported = 0;
  return ::syscall(SYS_arch_prctl, kArchGetSupported, &supported) == 0 && (supported >> kTileData & 1) != 0;
}

// Threads and children of the process inherit the leave.
bool ask_for_tiles() {
  constexpr long kArchRequestPermission = 0x1023;
  return has_amx() && ::syscall(SYS_arch_prctl, kArchRequestPermission, kTileData) == 0;
}

bool ask(Isa isa) {
  switch (isa) {
    case Isa::baseline:
      return true;
    case Isa::avx2:
      return has_avx2();
    case Isa::avx512:
      return has_avx2() && has_avx512();
    case Isa::avx512_bf16:
      return ask(Isa::avx512) && __builtin_cpu_supports("avx512bf16");
    case Isa::amx:
      return ask(Isa::avx512_bf16) && has_amx();
  }
  return false;
}
#else
bool ask(Isa isa) { return isa == Isa::baseline; }
bool ask_for_tiles() { return false; }
#endif

constexpr const char* kVariable = "CDNA_CPU";

const KernelChoice<Isa>& choice() {
  static const KernelChoice<Isa> instance =
      choose_kernel<Isa>(kIsas, kVariable, [](Isa isa) { return is_available(isa); });
  return instance;
}

}  // namespace

std::string_view name_of(Isa isa) {
  static constexpr std::string_view kNames[] = {"baseline", "avx2", "avx512", "avx512bf16", "amx"};
  return kNames[static_cast<std::size_t>(isa)];
}

// CPUID traps under a hypervisor: some microseconds each.
bool is_available(Isa isa) {
  static const std::array<bool, std::size(kIsas)> kAvailable = [] {
    std::array<bool, std::size(kIsas)> available{};
    for (const Isa each : kIsas) available[static_cast<std::size_t>(each)] = ask(each);
    return available;
  }();
  return kAvailable[static_cast<std::size_t>(isa)];
}

bool allow_tiles() {
  static const bool kAllowed = ask_for_tiles();
  return kAllowed;
}

std::string_view instruction_set() { return name_of(isa()); }

Isa isa() { return choice().kernel; }

Result<void> check_isa() { return check_choice(choice(), kVariable); }

}  // namespace cdna
