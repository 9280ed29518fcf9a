// The end of the stream loop: row scales, outliers, and the sums of warps and blocks in one order, whoever comes last.
#pragma once

#include "device.h"
#include "stream_x.h"

namespace cdna_cuda {

// What a warp has summed up, and of what.
template <unsigned row_tiles, unsigned column_tiles_of_b>
struct StreamSums {
  // Row tile, column tile of B, then as mma.m16n8k16 has C: rows g, g, g + 8, g + 8 and columns 2t, 2t + 1, 2t, 2t + 1.
  float sums[row_tiles][column_tiles_of_b][4];
};

// A block's part of the product.
struct StreamBlock {
  std::uint32_t segment;
  std::uint32_t row_tile_begin;  // Of the block.
  std::uint32_t tile_begin;      // Column tiles.
  std::uint32_t tile_end;
  std::uint32_t x_row_begin;
  std::uint32_t x_rows;
  std::uint32_t number;  // Of the row block and pass.
  std::uint32_t split;
};

// In shared memory a warp's sums lie as in its registers, number by number of all lanes: what lane (g, t) has summed up
// for a row and column is read and changed by that lane alone until all warps are done.
// Sums to there, times row scales; of f32 x, both columns of a row together and its power of two undone: the sums
// of a row of x are then numbers 0 and 2 of the four.
template <unsigned row_tiles, unsigned columns>
CDNA_DEVICE void keep_sums(const StreamSums<row_tiles, columns>& sums, const StreamArguments& arguments,
                           const StreamBlock& block, std::uint32_t row_tile_begin, const int* exponents, float* to) {
  const StreamSegment& segment = arguments.segments[block.segment];
  const std::uint32_t lane = threadIdx.x % kLanes;
#pragma unroll
  for (unsigned r = 0; r < row_tiles; ++r) {
    float scale[2] = {1.0F, 1.0F};
    if (segment.row_scales != nullptr && row_tile_begin + r < segment.row_tiles) {
      const float* const scales = segment.row_scales + std::size_t{kTileRows} * (row_tile_begin + r) + lane / 4;
      scale[0] = scales[0];
      scale[1] = scales[8];
    }
#pragma unroll
    for (unsigned n = 0; n < columns; ++n) {
      const float(&c)[4] = sums.sums[r][n];
      const bool pairs = arguments.x_type == Float::f32;
      const std::uint32_t row = 4 * n + lane % 4;
      const int exponent = pairs && row < block.x_rows ? -exponents[row] : 0;
      float* const four = to + (r * columns + n) * 4 * kLanes;
#pragma unroll
      for (unsigned i = 0; i < 4; i += 2) {
        const float first = pairs ? scale_by_power((c[i] + c[i + 1]) * scale[i / 2], exponent) : c[i] * scale[i / 2];
        four[i * kLanes] = first;
        four[(i + 1) * kLanes] = c[i + 1] * scale[i / 2];
      }
    }
  }
}

// One outlier of the lane's rows. `sums`: the lane's of the row tile.
CDNA_DEVICE void add_outlier(float* sums, const StreamArguments& arguments, const StreamBlock& block,
                             std::uint32_t place, float delta) {
  const bool pairs = arguments.x_type == Float::f32;
  const std::uint32_t t = threadIdx.x % 4;
  float* sum = sums + (place >> 3 & 1U) * 2 * kLanes;
  if (pairs) {
    for (std::uint32_t row = t; row < block.x_rows; row += 4, sum += 4 * kLanes) {
      *sum = fmaf(delta, x_number(arguments, block.x_row_begin + row, place >> 4), *sum);
    }
    return;
  }
  for (std::uint32_t row = 2 * t; row < block.x_rows; row += 8, sum += 4 * kLanes) {
    sum[0] = fmaf(delta, x_number(arguments, block.x_row_begin + row, place >> 4), sum[0]);
    if (row + 1 == block.x_rows) return;
    sum[kLanes] = fmaf(delta, x_number(arguments, block.x_row_begin + row + 1, place >> 4), sum[kLanes]);
  }
}

// The outliers [begin, end) of a row tile, 32 at a time, one per lane; each quad of lanes adds those of its rows, in
// their order.
CDNA_DEVICE void add_outliers(float* sums, const StreamArguments& arguments, const StreamBlock& block,
                              std::uint32_t begin, std::uint32_t end) {
  constexpr unsigned kAll = 0xFFFFFFFFU;
  const StreamSegment& segment = arguments.segments[block.segment];
  const std::uint32_t lane = threadIdx.x % kLanes;
  for (std::uint32_t first = begin; first < end; first += kLanes) {
    const bool valid = end - first > lane;
    const std::uint32_t place = valid ? segment.outlier_places[first + lane] : 0;
    const float delta = valid ? segment.outlier_deltas[first + lane] : 0.0F;
    std::uint32_t mine = __ballot_sync(kAll, valid);
#pragma unroll
    for (unsigned bit = 0; bit < 3; ++bit) {
      const std::uint32_t set = __ballot_sync(kAll, (place >> bit & 1U) != 0);
      mine &= (lane / 4 >> bit & 1U) != 0 ? set : ~set;
    }
    while (__any_sync(kAll, mine != 0)) {
      const int source = mine != 0 ? __ffs(static_cast<int>(mine)) - 1 : 0;
      const std::uint32_t one = __shfl_sync(kAll, place, source);
      const float of_one = __shfl_sync(kAll, delta, source);
      if (mine != 0) add_outlier(sums, arguments, block, one, of_one);
      mine &= mine - 1;
    }
  }
}

CDNA_DEVICE float y_number(const unsigned char* from, Float type, std::size_t place) {
  if (type == Float::f32) return reinterpret_cast<const float*>(from)[place];
  const std::uint16_t bits = reinterpret_cast<const std::uint16_t*>(from)[place];
  return type == Float::f16 ? widen<Half::f16>(bits) : widen<Half::bf16>(bits);
}

// Bias, and rounding to the type of y.
CDNA_DEVICE void store_y(const StreamArguments& arguments, const StreamSegment& segment, std::uint32_t x_row,
                         std::uint32_t w_row, float sum) {
  if (segment.bias != nullptr) sum += y_number(segment.bias, arguments.y_type, w_row);
  const std::int64_t place = x_row * arguments.y_stride + static_cast<std::int64_t>(segment.y_column + w_row);
  if (arguments.y_type == Float::f32) {
    reinterpret_cast<float*>(arguments.y)[place] = sum;
  } else {
    reinterpret_cast<std::uint16_t*>(arguments.y)[place] =
        arguments.y_type == Float::f16 ? narrow<Half::f16>(sum) : narrow<Half::bf16>(sum);
  }
}

// The sum of all warps for row `row` of the block and row `x_row` of its x, in the order of k.
template <unsigned row_tiles, unsigned columns>
CDNA_DEVICE float sum_warps(const float* all, const StreamArguments& arguments, std::uint32_t row,
                            std::uint32_t x_row) {
  const std::uint32_t tile = row / kTileRows;  // Of the block: warp by warp.
  const std::uint32_t column = arguments.x_type == Float::f32 ? 2 * x_row : x_row;
  const std::uint32_t number = 2 * (row / 8 % 2) + column % 2;
  const std::uint32_t lane = 4 * (row % 8) + column % 8 / 2;
  const float* from = all + ((tile * columns + column / 8) * 4 + number) * kLanes + lane;
  float sum = 0;
  for (std::uint32_t warp = 0; warp < kStreamWarps; warp += arguments.warps_over_rows) {
    sum += *from;
    from += arguments.warps_over_rows * row_tiles * columns * 4 * kLanes;
  }
  return sum;
}

// Whether all other blocks of the row block have left their parts: true for one of them, the last. All threads call it.
CDNA_DEVICE bool last_of_row_block(const StreamArguments& arguments, const StreamBlock& block, std::uint32_t* flag) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    const bool last = atomicAdd(&arguments.counters[block.number], 1U) + 1 == arguments.splits;
    if (last) arguments.counters[block.number] = 0;
    *flag = last ? 1 : 0;
  }
  __syncthreads();
  __threadfence();
  return *flag != 0;
}

// The sums of all warps, kept in shared memory, to y; or to the block's part, and the last block those of all to y.
template <unsigned row_tiles, unsigned columns>
CDNA_DEVICE void store_sums(const StreamArguments& arguments, const StreamBlock& block, const float* memory,
                            std::uint32_t* flag) {
  const StreamSegment& segment = arguments.segments[block.segment];
  const std::uint32_t rows = arguments.warps_over_rows * row_tiles * kTileRows;
  const std::uint32_t row_begin = block.row_tile_begin * kTileRows;
  const std::uint32_t count = rows * block.x_rows;
  const std::size_t part_size = std::size_t{rows} * arguments.rows_per_pass;
  const bool in_parts = arguments.splits > 1;
  float* const parts = in_parts ? arguments.parts + std::size_t{block.number} * arguments.splits * part_size : nullptr;
  for (std::uint32_t i = computed_here(threadIdx.x); i < count; i += kStreamThreads) {
    const float sum = sum_warps<row_tiles, columns>(memory, arguments, i % rows, i / rows);
    if (in_parts) {
      parts[block.split * part_size + i] = sum;
    } else if (row_begin + i % rows < segment.rows) {
      store_y(arguments, segment, block.x_row_begin + i / rows, row_begin + i % rows, sum);
    }
  }
  if (!in_parts || !last_of_row_block(arguments, block, flag)) return;
  for (std::uint32_t i = computed_here(threadIdx.x); i < count; i += kStreamThreads) {
    if (row_begin + i % rows >= segment.rows) continue;
    float sum = 0;
#pragma unroll 4
    for (std::uint32_t split = 0; split < arguments.splits; ++split) sum += parts[split * part_size + i];
    store_y(arguments, segment, block.x_row_begin + i / rows, row_begin + i % rows, sum);
  }
}

}  // namespace cdna_cuda
