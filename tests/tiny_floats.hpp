// Values of elements of every float dtype, by the definitions of their formats.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cdna/dtype.hpp"

namespace cdna::test {

inline constexpr DType kTinyFloatTypes[] = {DType::f8_e4m3,     DType::f8_e5m2, DType::f8_e8m0, DType::f8_e4m3fnuz,
                                            DType::f8_e5m2fnuz, DType::f6_e2m3, DType::f6_e3m2, DType::f4};

// Of F16, BF16, F32, F64 or a tiny float. NaN for any NaN. Element `index` of a row that begins at a whole byte.
double value_at(DType dtype, const std::byte* row, std::uint64_t index);

// Of a tiny float. Requires: bits < 2^bits_of(dtype).
double value_of_tiny(DType dtype, std::uint32_t bits);

}  // namespace cdna::test
