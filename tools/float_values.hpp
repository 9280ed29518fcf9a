// Stored floats as f64.
#pragma once

#include <cstddef>
#include <span>

#include "cdna/dtype.hpp"

namespace cdna::tools {

// to[i] = element i of `from`, little-endian elements of F16, BF16, F32 or F64, exactly. NaNs keep sign and payload, as
// the upper bits, and become quiet. Requires: is_float(dtype), from.size() == to.size() * size of dtype.
// Written apart from the library's decoders, which it serves to judge.
void widen(DType dtype, std::span<const std::byte> from, std::span<double> to);

}  // namespace cdna::tools
