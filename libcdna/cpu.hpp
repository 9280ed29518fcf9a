// Which instruction set the kernels use, those of SHA-256 apart: the best that this machine has, or the one that
// CDNA_CPU names.
#pragma once

#include <cstdint>
#include <string_view>

#include "cdna/error.hpp"

namespace cdna {

// baseline: what the build is for. avx2: AVX2. avx512: AVX-512 with F, BW, VL, DQ and VBMI.
enum class Isa : std::uint8_t { baseline, avx2, avx512 };

inline constexpr Isa kIsas[] = {Isa::baseline, Isa::avx2, Isa::avx512};

// "baseline", "avx2", "avx512".
std::string_view name_of(Isa isa);
// Whether the CPU and the operating system have it.
bool is_available(Isa isa);

// The one in use. Chosen at the first call; what CDNA_CPU says after that changes nothing.
Isa isa();
// Errors: bad_argument where CDNA_CPU names an instruction set that does not exist or is not available here.
Result<void> check_isa();

}  // namespace cdna
