// What one launch of the block or wgmma loop multiplies, and which block does which part of y.
#pragma once

#include "batch_ring.h"
#include "device.h"
#include "linear.h"

namespace cdna_cuda {

// The argument of the kernels. Its segments all have the same decoding.
struct TiledProduct {
  Segment segments[kSegmentsMax];
  std::uint32_t row_blocks_before[kSegmentsMax + 1];  // Of the grid, in the segments before.
  std::uint32_t batch_blocks;
  unsigned stages;  // Of the ring.
  Batch batch;
  unsigned char* y;
  Float y_type;
  std::int64_t y_stride;
};

// Batch blocks whose blocks of the grid run at about the same time. 132 blocks of 128 rows x 256 columns, r by b of
// them, read 128 r + 512 b bytes per k (codes of 8 bits, x of 16): least with 6 batch blocks and 22 row blocks.
constexpr std::uint32_t kBandBlocks = 6;

// Shared memory: the table, the block's segment, and the ring, which wgmma wants aligned to 1024 bytes.
constexpr std::size_t kRingOffset = kTableBytes + 1024;
static_assert(sizeof(Segment) <= 1024);

// What a block has to know of its segment is read from shared memory when it is needed: there are no registers for it.
// A block's threads together.
CDNA_DEVICE const Segment& copy_segment(const Segment& from, unsigned char* to) {
  auto* const segment = reinterpret_cast<Segment*>(to);
  if (threadIdx.x == 0) *segment = from;
  __syncthreads();
  return *segment;
}

struct BlockPlace {
  unsigned segment;
  std::uint32_t row_block;  // Of the segment.
  std::uint32_t batch_block;
};

// Blocks of a band of batch blocks follow each other, row block after row block, so that those that run together share
// tiles of x and W in L2.
CDNA_HD BlockPlace place_of_block(const std::uint32_t* row_blocks_before, std::uint32_t batch_blocks,
                                  std::uint32_t block) {
  const std::uint32_t row_blocks = row_blocks_before[kSegmentsMax];
  const std::uint32_t band = block / (row_blocks * kBandBlocks);
  const std::uint32_t left = batch_blocks - band * kBandBlocks;
  const std::uint32_t width = left < kBandBlocks ? left : kBandBlocks;
  const std::uint32_t in_band = block - band * row_blocks * kBandBlocks;
  const std::uint32_t row_block = in_band / width;
  unsigned segment = 0;
  while (segment + 1 < kSegmentsMax && row_blocks_before[segment + 1] <= row_block) ++segment;
  return {segment, row_block - row_blocks_before[segment], band * kBandBlocks + in_band % width};
}

}  // namespace cdna_cuda
