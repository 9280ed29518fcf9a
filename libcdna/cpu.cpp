// Choice of the instruction set.
#include "libcdna/cpu.hpp"

#include <cstddef>
#include <cstdlib>
#include <string>

#include "cdna/cpu.hpp"
#include "libcdna/try.hpp"

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

struct Choice {
  Isa isa = Isa::baseline;
  std::string wanted;  // What CDNA_CPU says, where it cannot be had.
};

Choice choose() {
  Choice choice;
  for (const Isa each : kIsas) {
    if (ask(each)) choice.isa = each;
  }
  const char* const wanted = std::getenv("CDNA_CPU");
  if (wanted == nullptr || *wanted == '\0') return choice;
  for (const Isa each : kIsas) {
    if (wanted == name_of(each) && ask(each)) return {each, ""};
  }
  choice.wanted = wanted;
  return choice;
}

const Choice& choice() {
  static const Choice instance = choose();
  return instance;
}

}  // namespace

std::string_view name_of(Isa isa) {
  static constexpr std::string_view kNames[] = {"baseline", "avx2", "avx512"};
  return kNames[static_cast<std::size_t>(isa)];
}

bool is_available(Isa isa) { return ask(isa); }

std::string_view instruction_set() { return name_of(isa()); }

Isa isa() { return choice().isa; }

Result<void> check_isa() {
  CDNA_CHECK(choice().wanted.empty(), Code::bad_argument, "",
             "CDNA_CPU=" + choice().wanted + " is not available on this machine");
  return {};
}

}  // namespace cdna
