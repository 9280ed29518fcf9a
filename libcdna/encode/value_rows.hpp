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

// The sum of eight partial sums, in the order of spec/format.md, section 17.
inline double total_of(std::span<const double, 8> lanes) {
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

// Element `index` of `bytes` as f64: exact for all four float types.
double value_at(DType dtype, std::span<const std::byte> bytes, std::uint64_t index);

// Elements [first, first + count) as f32 (of F64: rounded): where they are, if they are F32 and aligned, else in
// `scratch`. Requires: scratch.size() >= count.
std::span<const float> values_at(DType dtype, std::span<const std::byte> bytes, std::uint64_t first, std::size_t count,
                                 std::span<float> scratch);

// The same, 0 where they are not finite.
std::span<const float> finite_values_at(DType dtype, std::span<const std::byte> bytes, std::uint64_t first,
                                        std::size_t count, std::span<float> scratch);

bool all_finite(std::span<const float> values);

// The position of the first element that is NaN, infinite, or (F64) beyond the range of f32.
std::optional<std::uint64_t> find_nonfinite(DType dtype, std::span<const std::byte> bytes, std::uint64_t count);

struct RowSummary {
  float rms = 0;  // sqrt of the mean square of the finite elements, in the order of spec/format.md, section 17.
  std::uint64_t nonfinite_count = 0;
};
RowSummary summary_of(DType dtype, std::span<const std::byte> row, std::uint64_t cols);

// The largest |w| of the finite elements whose |w| / rms is below `outlier_bound`.
float magnitude_of(DType dtype, std::span<const std::byte> row, std::uint64_t cols, float rms, float outlier_bound);

}  // namespace cdna
