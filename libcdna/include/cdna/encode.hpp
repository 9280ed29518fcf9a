// The compressor without a file: a matrix in, its planes and its error out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cdna/dtype.hpp"
#include "cdna/error.hpp"
#include "cdna/preset.hpp"
#include "cdna/statistics.hpp"

namespace cdna {

// The planes of cdna.codebook (spec/format.md, 13.2), each whole.
struct EncodedMatrix {
  DType dtype = DType::none;  // Of the source, and of outlier_values.
  std::uint64_t rows = 0;
  std::uint64_t cols = 0;
  std::uint32_t bits = 0;                        // b, per code.
  std::uint32_t group = 0;                       // 0: no group scales.
  std::vector<float> codebook;                   // [2^b], ascending; every entry is a binary16 number.
  std::vector<std::byte> codes;                  // [rows, ceil(cols * b / 8)]
  std::vector<float> row_scales;                 // [rows]
  std::vector<std::uint8_t> group_scales;        // [rows, ceil(cols / group)], numbers of scale_table.
  std::vector<float> scale_table;                // [256], with group scales.
  std::vector<std::byte> outlier_values;         // [outliers], in dtype.
  std::vector<std::uint64_t> outlier_positions;  // [outliers], row-major in the matrix, ascending.
  TensorStatistics statistics;

  std::uint64_t payload_bytes() const;  // Of all planes, as a file would hold them without its index and gaps.
  double bits_per_weight() const;       // 8 * payload_bytes() / (rows * cols).
};

// Planes of cdna.codebook that exist already, for Writer::add_encoded(), whoever made them. Views: whoever fills them
// keeps what they view alive and unchanged. Rows and columns are those of the TensorSpec.
struct EncodedPlanes {
  std::uint32_t bits = 0;                // b, per code: 1..16.
  std::uint32_t vector = 1;              // Elements of a row that a code stands for: 1, 2 or 4; divides the columns.
  std::uint32_t group = 0;               // 16, 32, 64 or 128 columns; 0: no group scales.
  DType outlier_dtype = DType::none;     // F16, BF16, F32 or F64; none: the tensor's.
  std::span<const float> codebook;       // [2^b, vector], finite; ascending where vector is 1.
  std::span<const std::byte> codes;      // [rows, ceil(cols / vector * b / 8)], as in spec/format.md, 8.2.
  std::span<const float> row_scales;     // [rows], finite; empty: none.
  std::span<const float> column_scales;  // [cols], finite and not 0: values are divided by them; empty: none.
  // With groups one of these two, [rows, ceil(cols / group)]: numbers of scale_table, [256], finite; or the scales.
  std::span<const std::uint8_t> group_scales;
  std::span<const float> scale_table;
  std::span<const float> group_factors;              // Finite; stored as binary16 where all of them are such numbers.
  std::span<const float> group_offsets;              // As many, finite, or empty: added behind the scale.
  std::span<const std::byte> outlier_values;         // [outliers], in their dtype, little-endian; not aligned.
  std::span<const std::uint64_t> outlier_positions;  // [outliers], row-major in the matrix, ascending.
  // A matrix of low rank that is added: low_rank_left [rows, r] * low_rank_factors [r] * low_rank_right [r, cols].
  std::span<const float> low_rank_left;
  std::span<const float> low_rank_factors;  // Its size is r, 0 (none) to 1024.
  std::span<const float> low_rank_right;
  // Of the source against what the planes decode to. Without: unknown. NaN kurtosis or entropy: these two are unknown.
  std::optional<TensorStatistics> statistics;
};

// All of a matrix, statistics included. Valid while it lives and does not change.
EncodedPlanes view(const EncodedMatrix& matrix);

// Encodes row-major elements as a writer would. Requires: data.size() == rows * cols * size of dtype.
// Errors: bad_argument (not F16, BF16, F32 or F64; no elements; over 2^24 columns; options; a value that is not finite,
// with its place), no_memory. Threads: `threads` work during the call, 0: one per core; the result does not depend on
// them.
Result<EncodedMatrix> encode(DType dtype, std::uint64_t rows, std::uint64_t cols, std::span<const std::byte> data,
                             const CodebookOptions& options = {}, unsigned threads = 1);

// The values that a reader would return, as f32, row-major. Requires: out.size() == rows * cols.
void decode(const EncodedMatrix& matrix, std::span<float> out);

// The same of some rows of planes, of a tensor of this dtype. Requires: planes that Writer::add_encoded() takes for
// this dtype, rows and columns; out.size() is a multiple of `cols`, and row_begin + out.size() / cols <= rows.
void decode(const EncodedPlanes& planes, DType dtype, std::uint64_t cols, std::uint64_t row_begin,
            std::span<float> out);

}  // namespace cdna
