// Choice of the instruction set.
#include "libcdna/cpu.hpp"

#include <cstddef>

#include "cdna/cpu.hpp"
#include "libcdna/kernel_choice.hpp"

namespace cdna {
namespace {

#if defined(__x86_64__)
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vbmi");
}

bool ask(Isa isa) {
  switch (isa) {
    case Isa::baseline:
      return true;
    case Isa::avx2:
      return __builtin_cpu_supports("avx2");
    case Isa::avx512:
      return has_avx512();
  }
  return false;
}
#else
bool ask(Isa isa) { return isa == Isa::baseline; }
#endif

constexpr const char* kVariable = "CDNA_CPU";

const KernelChoice<Isa>& choice() {
  static const KernelChoice<Isa> instance = choose_kernel<Isa>(kIsas, kVariable, ask);
  return instance;
}

}  // namespace

std::string_view name_of(Isa isa) {
  static constexpr std::string_view kNames[] = {"baseline", "avx2", "avx512"};
  return kNames[static_cast<std::size_t>(isa)];
}

bool is_available(Isa isa) { return ask(isa); }

std::string_view instruction_set() { return name_of(isa()); }

Isa isa() { return choice().kernel; }

Result<void> check_isa() { return check_choice(choice(), kVariable); }

}  // namespace cdna
