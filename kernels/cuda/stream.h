// The stream loop: how its blocks share out the work, and what the kernel is given.
//
// A block of 8 warps makes `warps_over_rows` * R row tiles of W (R per warp), for one of `splits` ranges of column
// tiles and up to 64 columns of B. Its other warps split the range: of 8 / warps_over_rows warps with the same rows,
// warp i takes the column tiles i, i + their number, ... x is staged in the gaps of the table (kTableStride): all of
// the range where that fits, else in slabs, of which one is read while the next is on its way.
#pragma once

#include "decode.h"
#include "linear.h"

namespace cdna_cuda {

constexpr unsigned kStreamWarps = 8;
constexpr unsigned kStreamThreads = kStreamWarps * kLanes;
constexpr unsigned kStreamColumnsMax = 64;  // Of B, in a pass.
constexpr unsigned kCounters = 1024;        // In the workspace's first 4 KiB.
constexpr std::size_t kCounterBytes = std::size_t{4} * kCounters;

// Shared memory: the table with x in its gaps (later: sums), 8 copies of the scale table, exponents of rows of x, a
// flag.
constexpr unsigned kScaleCopies = 8;
constexpr std::size_t kScaleTableBytes = std::size_t{256} * kScaleCopies * 4;
constexpr std::size_t kExponentsBytes = std::size_t{kStreamColumnsMax / 2} * 4;
constexpr std::size_t stream_shared_bytes(ScaleType type) {
  return kTableBytes + kExponentsBytes + 16 + (type == ScaleType::u8 ? kScaleTableBytes : 0);
}

// Columns of B in a pass: f32 group scales take registers that 64 columns need.
CDNA_HD constexpr unsigned stream_columns_max(ScaleType scale) {
  return scale == ScaleType::f32 ? kStreamColumnsMax / 2 : kStreamColumnsMax;
}
// Row tiles per warp: they share what is read of x, and need registers for twice the sums. Of 8 bits and up to 8
// columns one is enough; with group scales two do not always fit (NOTES.md).
CDNA_HD constexpr unsigned row_tiles_per_warp(unsigned bits, unsigned column_tiles_of_b, ScaleType scale) {
  if (column_tiles_of_b == 1) return bits == 8 ? 1 : 2;
  return scale == ScaleType::none || (scale == ScaleType::u8 && column_tiles_of_b == 4) ? 2 : 1;
}
// Blocks on a multiprocessor for which registers are kept: 80, 128 or 255 per thread.
CDNA_HD constexpr unsigned stream_blocks_per_multiprocessor(unsigned bits, unsigned column_tiles_of_b,
                                                            ScaleType scale) {
  if (column_tiles_of_b == 1) return bits == 8 || scale == ScaleType::none ? 3 : 2;
  return column_tiles_of_b == 2 ? 2 : 1;
}
// Columns of B for which x is staged: 1, 2, 4, 8, 16, 32, 64.
CDNA_HD constexpr unsigned staged_columns(unsigned columns) {
  unsigned staged = 1;
  while (staged < columns) staged *= 2;
  return staged;
}
// Column tiles of W for which x fits in the gaps: 32 KiB.
CDNA_HD constexpr unsigned staged_tiles_max(unsigned staged) { return 128 / staged; }

// What decides how the work is shared out.
struct StreamWork {
  unsigned bits = 8;
  ScaleType scale = ScaleType::none;
  std::uint64_t row_tiles[kSegmentsMax] = {};
  unsigned segment_count = 0;
  std::uint64_t column_tiles = 0;
  std::uint32_t m = 0;
  unsigned columns_per_row = 1;  // Of B for a row of x: 2 for f32.
};

struct StreamShape {
  bool possible = false;
  unsigned column_tiles_of_b = 1;  // 1, 2, 4, 8
  unsigned staged = 1;             // staged_columns()
  unsigned warps_over_rows = 1;    // 1, 2, 4, 8
  unsigned splits = 1;
  unsigned slab_tiles = 1;       // Column tiles of W per slab of x.
  unsigned passes = 1;           // Over rows of x.
  unsigned rows_per_pass = 1;    // Of x.
  std::uint64_t row_blocks = 0;  // Over all segments.
  std::size_t workspace_bytes = 0;
  double clocks = 0;  // Of a multiprocessor, estimated.
};

// The shape with the least estimated time; of `splits`, if it is not 0 (at most column_tiles). Pure.
StreamShape choose_stream_shape(const StreamWork& work, const Device& device, unsigned splits);
// The shape with what is given. Not possible: more row blocks than counters when splits > 1, or a slab that does not
// fit.
StreamShape stream_shape(const StreamWork& work, const Device& device, unsigned warps_over_rows, unsigned splits);

struct StreamSegment {
  const unsigned char* tiles;
  const std::uint16_t* codebook;
  const float* row_scales;
  const unsigned char* group_scales;
  const float* scale_table;
  const std::uint32_t* outlier_begin;
  const std::uint32_t* outlier_places;
  const float* outlier_deltas;
  const unsigned char* bias;
  std::uint64_t y_column;
  std::uint32_t rows;
  std::uint32_t row_tiles;
  std::uint32_t group_shift;  // log2 of the columns of a group scale.
  std::uint32_t block_begin;
};

struct StreamArguments {
  StreamSegment segments[kSegmentsMax];
  std::uint32_t segment_count;
  const unsigned char* x;
  std::int64_t x_stride;
  Float x_type;
  bool x_aligned;  // Rows begin at multiples of 16 bytes.
  std::uint32_t cols;
  std::uint32_t column_tiles;
  std::uint32_t m;
  unsigned char* y;
  Float y_type;
  std::int64_t y_stride;
  float* parts;  // [passes, row blocks, splits, rows of x, rows of W]
  std::uint32_t* counters;
  std::uint32_t splits;
  std::uint32_t warps_over_rows;
  std::uint32_t slab_tiles;
  std::uint32_t staged;
  std::uint32_t row_blocks;
  std::uint32_t rows_per_pass;
};

// One per width, so that they compile side by side: launches the kernel for the half, the column tiles of B and the
// type of group scales.
struct StreamLaunch {
  StreamArguments arguments;
  StreamShape shape;
  Half half;
  ScaleType scale;
  cudaStream_t stream;
};
cudaError_t launch_stream_4(const StreamLaunch& launch);
cudaError_t launch_stream_5(const StreamLaunch& launch);
cudaError_t launch_stream_6(const StreamLaunch& launch);
cudaError_t launch_stream_8(const StreamLaunch& launch);

}  // namespace cdna_cuda
