// From the file's order to that of the device, on the device; and back to numbers.
#pragma once

#include "linear.h"

namespace cdna_cuda {

// Codes of some rows and columns of a code plane, as they lie in the file (spec/format.md 8.2: each row a bit string, low
// bits first, padded to a byte), to their tiles.
struct PackCodes {
  const void* source = nullptr;      // Row row_begin, column column_begin; on the device.
  std::uint64_t row_bytes = 0;       // From row to row.
  unsigned source_bits = 0;          // 1 .. 8
  std::uint32_t row_begin = 0;       // Of W; any.
  std::uint32_t row_count = 0;
  std::uint32_t column_begin = 0;    // A multiple of kTileColumns.
  std::uint32_t column_count = 0;    // A multiple of kTileColumns, unless it reaches the last column.
  std::uint32_t cols = 0;            // Of W.
  void* tiles = nullptr;             // device_bits(source_bits)
};
// Writes whole words: padding behind the last column gets code 0. Tiles of rows that are never written keep what they
// hold, so memory is cleared first where the last tile has such.
Outcome pack_codes(const PackCodes& call, cudaStream_t stream);

// Group scales [row_count, groups of the columns], u8 or f32, row after row, to the order of Weights::group_scales.
struct PackScales {
  const void* source = nullptr;      // Row row_begin, the group of column_begin; on the device, aligned to its scales.
  ScaleType type = ScaleType::u8;
  std::uint32_t row_begin = 0;
  std::uint32_t row_count = 0;
  std::uint32_t column_begin = 0;    // As of PackCodes.
  std::uint32_t column_count = 0;    // 0: to the last.
  std::uint32_t cols = 0;
  std::uint32_t group = 0;
  void* scales = nullptr;
};
// Writes all scales of the rows of those tiles: 0 behind the last column.
Outcome pack_scales(const PackScales& call, cudaStream_t stream);

// Rows [row_begin, row_end) as numbers, out[i, k] at element i * stride + k: the f32 values of spec/format.md 13.2,
// rounded once to `type`. A plain operation, and half of the honest competitor "decode, then a dense product".
struct Dequantise {
  Weights weights;
  std::uint32_t row_begin = 0;
  std::uint32_t row_end = 0;
  void* out = nullptr;
  Float type = Float::f16;
  std::int64_t stride = 0;
};
Outcome dequantise(const Dequantise& call, cudaStream_t stream);

}  // namespace cdna_cuda
