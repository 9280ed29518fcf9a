// The kernel of the stream loop: y = x W^T for up to 64 columns of B at once, W read once (stream.h).
#pragma once

#include "device.h"
#include "launch.h"
#include "stream.h"
#include "stream_scales.h"
#include "stream_sums.h"
#include "stream_words.h"
#include "stream_x.h"

namespace cdna_cuda {

// Table rows 0 .. 255, 32 copies of each; two threads write a row, 16 bytes at a time.
CDNA_DEVICE void build_table(unsigned char* memory, unsigned bits, Half half, const std::uint16_t* codebook) {
  for (std::uint32_t i = threadIdx.x; i < 8 * kTableRows; i += kStreamThreads) {
    const std::uint32_t word = table_word(bits, half, codebook, i / 8);
    *reinterpret_cast<uint4*>(memory + i / 8 * kTableStride + i % 8 * 16) = make_uint4(word, word, word, word);
  }
}

// Copies side by side, so that the 8 rows of a warp read different banks.
CDNA_DEVICE void build_scale_table(unsigned char* memory, const float* table) {
  for (std::uint32_t i = threadIdx.x; i < 256 * kScaleCopies; i += kStreamThreads) {
    reinterpret_cast<float*>(memory)[i] = table[i / kScaleCopies];
  }
}

CDNA_DEVICE StreamBlock stream_block(const StreamArguments& arguments, std::uint32_t tiles_per_warp) {
  StreamBlock block;
  const std::uint32_t index = computed_here(blockIdx.x);
  const std::uint32_t row_block = index / arguments.splits;
  block.split = index % arguments.splits;
  block.segment = 0;
  for (std::uint32_t s = 1; s < arguments.segment_count; ++s) {
    if (row_block >= arguments.segments[s].block_begin) block.segment = s;
  }
  block.row_tile_begin =
      (row_block - arguments.segments[block.segment].block_begin) * arguments.warps_over_rows * tiles_per_warp;
  const std::uint64_t tiles = arguments.column_tiles;
  block.tile_begin = static_cast<std::uint32_t>(tiles * block.split / arguments.splits);
  block.tile_end = static_cast<std::uint32_t>(tiles * (block.split + 1) / arguments.splits);
  block.x_row_begin = blockIdx.y * arguments.rows_per_pass;
  const std::uint32_t left = arguments.m - block.x_row_begin;
  block.x_rows = left < arguments.rows_per_pass ? left : arguments.rows_per_pass;
  block.number = blockIdx.y * arguments.row_blocks + row_block;
  return block;
}

// The slab of x for column tiles from `tile_begin` on.
template <Half half>
CDNA_DEVICE void stage_slab(const StreamArguments& arguments, std::uint32_t tile_begin, unsigned char* memory,
                            const int* exponents) {
  const StreamBlock block = stream_block(arguments, 1);
  const std::uint32_t left = block.tile_end - tile_begin;
  Slab slab;
  slab.row_begin = block.x_row_begin;
  slab.rows = block.x_rows;
  slab.k_begin = tile_begin * kTileColumns;
  slab.chunks = kTileColumns / 8 * (left < arguments.slab_tiles ? left : arguments.slab_tiles);
  slab.memory = memory;
  if (half == Half::f16 && arguments.x_type == Float::f32) {
    stage_floats(arguments, slab, exponents);
  } else if (arguments.x_aligned) {
    stage_aligned(arguments, slab);
  } else {
    stage_halves(arguments, slab);
  }
  __syncwarp();  // Threads have gone ways of their own, and what follows is for whole warps.
}

// The warp's row tiles times one column tile. x_pairs: shared-memory addresses of the lane's rows of ldmatrix for the
// pairs of steps of the column tile.
template <unsigned bits, Half half, unsigned columns, ScaleType scale_type, unsigned row_tiles>
CDNA_DEVICE void multiply_tile(StreamSums<row_tiles, columns>& sums, StreamWords<bits, row_tiles>& words,
                               StreamScales<scale_type, row_tiles>& scales, const FragmentSource& source,
                               const ScalePlace& place, const std::uint32_t (&x_pairs)[4],
                               const unsigned char* lane_tiles, const std::uint32_t (&tiles)[row_tiles],
                               std::uint32_t tiles_on, bool any_following) {
#pragma unroll
  for (unsigned turn = 0; turn < 4; ++turn) {
    const unsigned pair = StreamWords<bits, row_tiles>::pair(turn);
    std::uint32_t b[columns][4];
    if (row_tiles > 1) {
#pragma unroll
      for (unsigned n = 0; n < columns; ++n) ldmatrix_x4(b[n], x_pairs[pair] + n * kTableStride);
    }
#pragma unroll
    for (unsigned r = 0; r < row_tiles; ++r) {
      __syncwarp();  // Loads of what comes later stay later: without, the compiler runs out of registers.
      // Before or after the fragments: where registers last, which ptxas decides.
      float scale[2];
      if (columns == 1) scales.take(scale, r, place, pair, tiles[r] + tiles_on, any_following);
      std::uint32_t a[2][4];
      words.fragment(a[0], r, 2 * pair, source);
      words.fragment(a[1], r, 2 * pair + 1, source);
      const unsigned char* const lane_tile = lane_tiles + std::uint64_t{tiles[r]} * tile_bytes(bits);
      words.reload(r, lane_tile, lane_tile + tiles_on * tile_bytes(bits), any_following, pair);
      if (columns > 1) scales.take(scale, r, place, pair, tiles[r] + tiles_on, any_following);
#pragma unroll
      for (unsigned n = 0; n < columns; ++n) {
        if (row_tiles == 1) ldmatrix_x4(b[n], x_pairs[pair] + n * kTableStride);
        const std::uint32_t b0[2] = {b[n][0], b[n][1]};
        const std::uint32_t b1[2] = {b[n][2], b[n][3]};
        float(&c)[4] = sums.sums[r][n];
        if constexpr (scale_type == ScaleType::none) {
          mma_16816<half>(c, a[0], b0);
          mma_16816<half>(c, a[1], b1);
        } else {
          float part[4] = {0.0F, 0.0F, 0.0F, 0.0F};
          mma_16816<half>(part, a[0], b0);
          mma_16816<half>(part, a[1], b1);
#pragma unroll
          for (unsigned i = 0; i < 4; ++i) c[i] = fmaf(scale[i / 2], part[i], c[i]);
        }
      }
    }
  }
}

// From the sums of warps to y. All that it needs to know of the block is computed again.
template <unsigned row_tiles, unsigned columns>
CDNA_DEVICE void end_block(const StreamSums<row_tiles, columns>& sums, const StreamArguments& arguments,
                           unsigned char* memory, const int* exponents, std::uint32_t* flag) {
  const StreamBlock block = stream_block(arguments, row_tiles);
  const StreamSegment& segment = arguments.segments[block.segment];
  const std::uint32_t thread = computed_here(threadIdx.x);
  const std::uint32_t warp = __shfl_sync(0xFFFFFFFFU, thread / kLanes, 0);
  const std::uint32_t row_tile_begin = block.row_tile_begin + warp % arguments.warps_over_rows * row_tiles;
  float* const all_sums = reinterpret_cast<float*>(memory);
  float* const own_sums = all_sums + warp * (row_tiles * columns * 4 * kLanes) + thread % kLanes;
  __syncthreads();  // The table's memory is now that of sums.
  keep_sums(sums, arguments, block, row_tile_begin, exponents, own_sums);
  if (segment.outlier_begin != nullptr) {
    const std::uint32_t warps_over_k = kStreamWarps / arguments.warps_over_rows;
    const std::uint32_t warp_of_k = warp / arguments.warps_over_rows;
    const std::uint64_t count = block.tile_end - block.tile_begin;
    const std::uint64_t begin = block.tile_begin + count * warp_of_k / warps_over_k;
    const std::uint64_t end = block.tile_begin + count * (warp_of_k + 1) / warps_over_k;
    for (unsigned r = 0; r < row_tiles && row_tile_begin + r < segment.row_tiles; ++r) {
      const std::uint32_t* const outlier_begin =
          segment.outlier_begin + std::uint64_t{row_tile_begin + r} * arguments.column_tiles;
      add_outliers(own_sums + r * (columns * 4 * kLanes), arguments, block, outlier_begin[begin], outlier_begin[end]);
    }
  }
  __syncthreads();
  store_sums<row_tiles, columns>(arguments, block, all_sums, flag);
}

// What ptxas keeps registers for: where a multiprocessor has 100 KiB of shared memory, only one block fits.
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 890)
constexpr unsigned blocks_to_fit(unsigned, unsigned, ScaleType) { return 1; }
#else
constexpr unsigned blocks_to_fit(unsigned bits, unsigned columns, ScaleType scale_type) {
  return stream_blocks_per_multiprocessor(bits, columns, scale_type);
}
#endif

template <unsigned bits, Half half, unsigned columns, ScaleType scale_type>
__global__ void __launch_bounds__(kStreamThreads, blocks_to_fit(bits, columns, scale_type))
    stream_kernel(const StreamArguments arguments) {
  constexpr unsigned row_tiles = row_tiles_per_warp(bits, columns, scale_type);
  CDNA_SHARED(memory);
  int* const exponents = reinterpret_cast<int*>(memory + kTableBytes);
  std::uint32_t* const flag = reinterpret_cast<std::uint32_t*>(memory + kTableBytes + kExponentsBytes);
  unsigned char* const scale_table = memory + kTableBytes + kExponentsBytes + 16;
  const std::uint32_t lane = threadIdx.x % kLanes;
  // By a shuffle, so that the compiler knows that all lanes have the same: what depends on it stays in uniform
  // registers.
  const std::uint32_t warp = __shfl_sync(0xFFFFFFFFU, threadIdx.x / kLanes, 0);
  const StreamBlock block = stream_block(arguments, row_tiles);
  const StreamSegment& segment = arguments.segments[block.segment];
  const std::uint32_t row_tile_begin = block.row_tile_begin + warp % arguments.warps_over_rows * row_tiles;
  const std::uint32_t warps_over_k = kStreamWarps / arguments.warps_over_rows;
  const std::uint32_t warp_of_k = warp / arguments.warps_over_rows;
  const bool any_rows = row_tile_begin < segment.row_tiles;

  // First of all, W is asked for.
  std::uint32_t tile = block.tile_begin + warp_of_k;
  const unsigned char* const lane_tiles = segment.tiles + 16 * lane;
  std::uint32_t rows_of_tiles[row_tiles];  // Their first tiles.
  ScalePlace place = {};
  if constexpr (scale_type != ScaleType::none) place = scale_place<scale_type>(segment, scale_table);
  StreamWords<bits, row_tiles> words;
  StreamScales<scale_type, row_tiles> scales;
#pragma unroll
  for (unsigned r = 0; r < row_tiles; ++r) {
    const std::uint32_t row_tile = row_tile_begin + r < segment.row_tiles ? row_tile_begin + r : segment.row_tiles - 1;
    rows_of_tiles[r] = row_tile * arguments.column_tiles;
    if (any_rows && tile < block.tile_end) {
      words.load(r, lane_tiles + std::uint64_t{rows_of_tiles[r] + tile} * tile_bytes(bits));
      scales.load(r, place, rows_of_tiles[r] + tile);
    }
  }

  build_table(memory, bits, half, segment.codebook);
  if (scale_type == ScaleType::u8) build_scale_table(scale_table, segment.scale_table);
  if (half == Half::f16 && arguments.x_type == Float::f32) {
    const std::uint32_t end = block.tile_end * kTileColumns;
    find_exponents(arguments, block.x_row_begin, block.x_rows, block.tile_begin * kTileColumns,
                   end < arguments.cols ? end : arguments.cols, exponents);
    __syncthreads();
  }
  stage_slab<half>(arguments, block.tile_begin, memory, exponents);
  copy_async_commit();

  const std::uint32_t table = shared_address(memory);
  const FragmentSource source = {memory, 4 * lane};
  const std::uint32_t column = arguments.staged < 8 ? lane % 8 & (arguments.staged - 1) : lane % 8;
  const std::uint32_t x_even = table + chunk_offset(lane / 8, column, arguments.staged);
  const std::uint32_t x_odd = table + chunk_offset(4 + lane / 8, column, arguments.staged);
  const std::uint32_t x_half_tile = staged_tile_bytes(arguments.staged) / 2;

  StreamSums<row_tiles, columns> sums = {};
  std::uint32_t slab_offset = 0;
  for (std::uint32_t slab = block.tile_begin; slab < block.tile_end; slab += arguments.slab_tiles) {
    copy_async_wait<0>();
    __syncthreads();
    const std::uint32_t next_slab_offset = kSecondSlab - slab_offset;
    if (block.tile_end - slab > arguments.slab_tiles) {
      stage_slab<half>(arguments, slab + arguments.slab_tiles, memory + next_slab_offset, exponents);
      copy_async_commit();
    }
    const std::uint32_t left = block.tile_end - slab;
    const std::uint32_t slab_end = slab + (left < arguments.slab_tiles ? left : arguments.slab_tiles);
    for (; any_rows && tile < slab_end; tile += warps_over_k) {
      const std::uint32_t x_offset = slab_offset + (tile - slab) * 2 * x_half_tile;
      const std::uint32_t x_pairs[4] = {x_even + x_offset, x_odd + x_offset, x_even + x_offset + x_half_tile,
                                        x_odd + x_offset + x_half_tile};
      const bool any_following = tile + warps_over_k < block.tile_end;
      std::uint32_t tiles[row_tiles];
#pragma unroll
      for (unsigned r = 0; r < row_tiles; ++r) {
        tiles[r] = rows_of_tiles[r] + tile;
        scales.begin_tile(r, place, tiles[r] + warps_over_k, any_following);
      }
      multiply_tile<bits, half, columns, scale_type>(sums, words, scales, source, place, x_pairs, lane_tiles, tiles,
                                                     warps_over_k, any_following);
    }
    slab_offset = next_slab_offset;
  }

  end_block(sums, arguments, memory, exponents, flag);
}

template <unsigned bits, Half half, unsigned columns, ScaleType scale_type>
cudaError_t launch_scaled(const StreamLaunch& call) {
  const dim3 grid(static_cast<unsigned>(call.shape.row_blocks * call.shape.splits), call.shape.passes);
  return launch(stream_kernel<bits, half, columns, scale_type>, grid, dim3(kStreamThreads),
                stream_shared_bytes(scale_type), call.stream, call.arguments);
}

template <unsigned bits, Half half, unsigned columns>
cudaError_t launch_columns(const StreamLaunch& call) {
  switch (call.scale) {
    case ScaleType::u8:
      return launch_scaled<bits, half, columns, ScaleType::u8>(call);
    case ScaleType::f32:
      if constexpr (8 * columns <= stream_columns_max(ScaleType::f32)) {
        return launch_scaled<bits, half, columns, ScaleType::f32>(call);
      }
      return cudaErrorInvalidValue;
    default:
      return launch_scaled<bits, half, columns, ScaleType::none>(call);
  }
}

template <unsigned bits, Half half>
cudaError_t launch_half(const StreamLaunch& call) {
  switch (call.shape.column_tiles_of_b) {
    case 1:
      return launch_columns<bits, half, 1>(call);
    case 2:
      return launch_columns<bits, half, 2>(call);
    case 4:
      return launch_columns<bits, half, 4>(call);
    default:
      return launch_columns<bits, half, 8>(call);
  }
}

template <unsigned bits>
cudaError_t launch_stream(const StreamLaunch& call) {
  return call.half == Half::f16 ? launch_half<bits, Half::f16>(call) : launch_half<bits, Half::bf16>(call);
}

}  // namespace cdna_cuda
