// Which of several kernels runs: the best that can be had, or the one that an environment variable names.
#pragma once

#include <cstdlib>
#include <span>
#include <string>

#include "libcdna/try.hpp"

namespace cdna {

template <class Kernel>
struct KernelChoice {
  Kernel kernel{};
  std::string refused;  // What the variable says, where it cannot be had.
};

// Of `kernels`, worst first, those that `is_available`. name_of(kernel) is what the variable may say.
template <class Kernel, class IsAvailable>
KernelChoice<Kernel> choose_kernel(std::span<const Kernel> kernels, const char* variable,
                                   const IsAvailable& is_available) {
  KernelChoice<Kernel> choice;
  for (const Kernel kernel : kernels) {
    if (is_available(kernel)) choice.kernel = kernel;
  }
  const char* const wanted = std::getenv(variable);
  if (wanted == nullptr || *wanted == '\0') return choice;
  for (const Kernel kernel : kernels) {
    if (wanted == name_of(kernel) && is_available(kernel)) return {kernel, ""};
  }
  choice.refused = wanted;
  return choice;
}

// Errors: bad_argument where the variable was refused.
template <class Kernel>
Result<void> check_choice(const KernelChoice<Kernel>& choice, const char* variable) {
  CDNA_CHECK(choice.refused.empty(), Code::bad_argument, "",
             std::string(variable) + "=" + choice.refused + " is not available on this machine");
  return {};
}

}  // namespace cdna
