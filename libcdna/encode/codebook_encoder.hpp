// Rows in, blocks of codes, row scales and outliers out: the encoder of cdna.codebook (spec/format.md, 13.2 and 17).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cdna/dtype.hpp"
#include "cdna/error.hpp"
#include "libcdna/encode/codebook_fit.hpp"

namespace cdna {

// Element `index` of `bytes` as f64: exact for all four float types.
double value_at(DType dtype, std::span<const std::byte> bytes, std::uint64_t index);

// The position of the first NaN, infinity, or (F64) value beyond the range of f32.
std::optional<std::uint64_t> find_nonfinite(DType dtype, std::span<const std::byte> bytes, std::uint64_t count);

// Adds the scaled values of whole rows to a histogram. Requires: all values finite.
void add_rows(DType dtype, std::span<const std::byte> bytes, std::uint64_t row_count, std::uint64_t cols,
              Histogram& histogram);

struct EncodedBlock {
  std::vector<std::byte> codes;     // [row_count, cols]
  std::vector<float> row_scales;    // [row_count]
  std::vector<std::byte> outliers;  // Values in the source dtype, then u32 positions.
  std::uint64_t outlier_count = 0;
  double sum_squares = 0;  // Over the block, in the order of section 17.
  double sum_squared_error = 0;
  float max_abs_error = 0;  // Rounded up.
};

// Values from `threshold` on, after scaling, are outliers; so is what would decode to something that is not finite.
EncodedBlock encode_rows(DType dtype, std::span<const std::byte> bytes, std::uint64_t row_count, std::uint64_t cols,
                         const Codebook& codebook, float threshold);

}  // namespace cdna
