// Chooses the loop.
#include "tools/bench/bf16_peak.hpp"

#include "cdna/cpu.hpp"

namespace cdna::tools::bench {

std::optional<Bf16Peak> bf16_peak() {
#if defined(__x86_64__)
  if (is_available(Isa::amx) && allow_tiles()) return Bf16Peak{"AMX tdpbf16ps", run_tile_products};
  if (is_available(Isa::avx512_bf16)) return Bf16Peak{"AVX-512 vdpbf16ps", run_vector_products};
#endif
  return std::nullopt;
}

}  // namespace cdna::tools::bench
