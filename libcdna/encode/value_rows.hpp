// Elements of the four float types as f32, and what there is to know of a row before it is encoded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "cdna/dtype.hpp"
#include "kernels/cpu/codebook.h"

namespace cdna {

// The kernels of cdna::isa().
const cdna_codebook_kernels& codebook_kernels();

// Element `index` of `bytes` as f64: exact for all four float types.
double value_at(DType dtype, std::span<const std::byte> bytes, std::uint64_t index);

// out[i] = element first + i, rounded to f32 where it is F64.
void widen(DType dtype, std::span<const std::byte> bytes, std::uint64_t first, std::span<float> out);

// Sets to 0 what is not finite. Returns how many there were.
std::size_t clear_nonfinite(std::span<float> values);

// The position of the first element that is NaN, infinite, or (F64) beyond the range of f32.
std::optional<std::uint64_t> find_nonfinite(DType dtype, std::span<const std::byte> bytes, std::uint64_t count);

// sqrt of the mean square of the finite elements, in the order of spec/format.md, section 17.
float rms_of(DType dtype, std::span<const std::byte> row, std::uint64_t cols);

// The largest |w| of the finite elements whose |w| / rms is below `outlier_bound`.
float magnitude_of(DType dtype, std::span<const std::byte> row, std::uint64_t cols, float rms, float outlier_bound);

}  // namespace cdna
