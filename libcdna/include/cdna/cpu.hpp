// Which of their variants the kernels use on this machine.
#pragma once

#include <string_view>

namespace cdna {

// "baseline", "avx2" or "avx512": the best that this machine has, or what CDNA_CPU names. Static storage.
std::string_view instruction_set();

}  // namespace cdna
