// The kernels that this machine can run, for tests of each.
#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "cdna/cpu.hpp"

namespace cdna::test {

template <class Kernels>
struct OfIsa {
  std::string_view name;
  const Kernels* kernels;
};

template <class Kernels>
struct KernelsForIsa {
  Isa isa;
  const Kernels* (*kernels)();
};

template <class Kernels>
std::vector<OfIsa<Kernels>> available(std::initializer_list<KernelsForIsa<Kernels>> all) {
  std::vector<OfIsa<Kernels>> found;
  for (const auto& [isa, kernels] : all) {
    if (!is_available(isa) || (isa == Isa::amx && !allow_tiles())) continue;
    found.push_back({name_of(isa), kernels()});
  }
  return found;
}

}  // namespace cdna::test
