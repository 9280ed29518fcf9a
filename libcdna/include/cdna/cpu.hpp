// Which instruction set the kernels use on this machine (those of SHA-256 apart): the best that it has, or the one
// that CDNA_CPU names.
#pragma once

#include <cstdint>
#include <string_view>

namespace cdna {

// Each has what those before it have.
enum class Isa : std::uint8_t {
  baseline,     // What the build is for.
  avx2,         // AVX2, FMA, F16C
  avx512,       // AVX-512 F, BW, VL, DQ, VBMI, VNNI
  avx512_bf16,  // AVX-512 BF16
  amx,          // AMX-TILE, AMX-BF16
};

inline constexpr Isa kIsas[] = {Isa::baseline, Isa::avx2, Isa::avx512, Isa::avx512_bf16, Isa::amx};

// "baseline", "avx2", "avx512", "avx512bf16", "amx": what CDNA_CPU may say. Static storage.
std::string_view name_of(Isa isa);
// Whether the CPU and the operating system have it.
bool is_available(Isa isa);
// Asks the system, once, for leave to use AMX tiles, and says whether it was given. They belong to the process from
// then on and make its signal frames larger: only products of bf16 tiles ask for them. Requires nothing.
bool allow_tiles();

// The one in use. Chosen at the first call; what CDNA_CPU says after that changes nothing.
Isa isa();
std::string_view instruction_set();  // Its name.

}  // namespace cdna
