// The codebook kernels that this machine can run, for tests of each.
#pragma once

#include <string_view>
#include <vector>

#include "kernels/cpu/codebook.h"
#include "cdna/cpu.hpp"

namespace cdna::test {

struct NamedKernels {
  std::string_view name;
  const cdna_codebook_kernels* kernels;
};

inline std::vector<NamedKernels> available_codebook_kernels() {
  std::vector<NamedKernels> available{{name_of(Isa::baseline), cdna_codebook_kernels_baseline()}};
#if defined(__x86_64__)
  if (is_available(Isa::avx2)) available.push_back({name_of(Isa::avx2), cdna_codebook_kernels_avx2()});
  if (is_available(Isa::avx512)) available.push_back({name_of(Isa::avx512), cdna_codebook_kernels_avx512()});
#endif
  return available;
}

}  // namespace cdna::test
