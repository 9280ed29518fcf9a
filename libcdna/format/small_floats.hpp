// Values of the float dtypes below 16 bits.
#pragma once

#include <span>

#include "cdna/dtype.hpp"

namespace cdna {

// F8, F6 and F4 of any kind.
bool is_small_float(DType dtype);

// The values of all 2^bits patterns; NaNs are quiet, with their sign where they have one. [2^bits], static storage.
// Sources: OCP 8-bit Floating Point Specification 1.0 (E4M3, E5M2), OCP Microscaling Formats 1.0 (E8M0, F6, F4), and
// arXiv:2206.02915 for the FNUZ kinds (one zero, one NaN at 0x80, exponent bias one higher).
// Requires: is_small_float(dtype).
std::span<const float> small_float_values(DType dtype);

}  // namespace cdna
