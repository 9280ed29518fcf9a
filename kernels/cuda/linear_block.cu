// The main loop for large m from sm_80 on: mma.m16n8k16 with W as A from registers and x as B from shared memory.
//
// A warp has 32 rows of W and 128 columns of the batch, so that an A operand is decoded once and used 16 times; the
// warps of a block share the columns. While a step is multiplied, the A operands of the next are decoded.
#include "launch.h"
#include "loops.h"
#include "output_rows.h"
#include "product_grid.h"
#include "scaled_fragment.h"
#include "tiled_plan.h"

namespace cdna_cuda {
namespace {

constexpr unsigned kThreadsMax = 256;
constexpr unsigned kRowTiles = 2;  // Of a warp.
constexpr unsigned kColumns = 128;
constexpr unsigned kAhead = 1;     // Stages of codes; there are no registers for more.
using Ring = BatchRing<kColumns>;  // 16 KiB each stage.

using Sums = float[kRowTiles][kColumns / 8][4];
using Operands = std::uint32_t[kRowTiles][4];

// Until the oldest of the ring's stages but one is there.
CDNA_DEVICE void wait_for_stage(unsigned stages) {
  if (stages == 2) {
    copy_async_wait<0>();
  } else if (stages == 3) {
    copy_async_wait<1>();
  } else {
    copy_async_wait<2>();
  }
}

// Where in a stage the lane's row of ldmatrix is for step 0: matrices 0 and 1 are 8 columns of the batch and k 0 .. 7
// and 8 .. 15, 2 and 3 the next 8 columns. Step s has 32 s in an exclusive or with the address (swizzled).
CDNA_DEVICE unsigned lane_place(unsigned lane) { return swizzled(lane / 16 * 8 + lane % 8, lane / 8 % 2); }

// c += a b for 16 columns of k of a stage. x: address of the lane's row for step 0.
template <Half half>
CDNA_DEVICE void multiply_step(Sums& c, const Operands& a, std::uint32_t x, unsigned step) {
  const std::uint32_t row = x ^ 32 * step;
#pragma unroll
  for (unsigned pair = 0; pair < kColumns / 16; ++pair) {
    std::uint32_t b[4];
    ldmatrix_x4(b, row + 16 * kStageRowBytes * pair);
    const std::uint32_t left[2] = {b[0], b[1]};
    const std::uint32_t right[2] = {b[2], b[3]};
#pragma unroll
    for (unsigned i = 0; i < kRowTiles; ++i) {
      mma_16816<half>(c[i][2 * pair], a[i], left);
      mma_16816<half>(c[i][2 * pair + 1], a[i], right);
    }
  }
}

// The kernels with the most to remember: scales, f32 entries, and the rest of words of 5 and 6 bits.
template <class D>
constexpr bool kTight = D::grouped&& D::codes == Codes::bytes;

// Step `step` of the tile at `column`, 8 being the first of the next.
template <class D>
CDNA_DEVICE void decode_step(FragmentStream<D, kAhead> (&streams)[kRowTiles], Operands& a, std::uint32_t column,
                             unsigned step) {
#pragma unroll
  for (unsigned i = 0; i < kRowTiles; ++i) {
    streams[i].decode(a[i], column + step / kSteps * kTileColumns, step % kSteps);
  }
}

template <class D>
__global__ void __launch_bounds__(kThreadsMax, 1) multiply(const __grid_constant__ TiledProduct product) {
  CDNA_SHARED(shared);
  const BlockPlace place = place_of_block(product.row_blocks_before, product.batch_blocks, blockIdx.x);
  const Segment& segment = copy_segment(product.segments[place.segment], shared + kTableBytes);
  const Weights& weights = segment.weights;
  const unsigned warp = threadIdx.x / kLanes;
  const unsigned lane = threadIdx.x % kLanes;
  Ring ring(shared + kRingOffset, product.stages, product.batch, place.batch_block * kColumns);
  for (unsigned i = 0; i + 1 < product.stages; ++i) ring.fetch(i, i * kStageK);

  const std::uint32_t row_tile = (place.row_block * (blockDim.x / kLanes) + warp) * kRowTiles;
  FragmentStream<D, kAhead> streams[kRowTiles] = {FragmentStream<D, kAhead>(weights, row_tile, shared, lane),
                                                  FragmentStream<D, kAhead>(weights, row_tile + 1, shared, lane)};
  fill_table<D>(shared, weights);
  __syncthreads();

  Sums c = {};
  Operands a[2];
  decode_step(streams, a[0], 0, 0);
#pragma unroll 1
  for (std::uint32_t column = 0; column < weights.cols; column += kTileColumns) {
    std::uint32_t x = 0;
#pragma unroll
    for (unsigned step = 0; step < kSteps; ++step) {
      if (step % kStageSteps == 0) {
        wait_for_stage(product.stages);
        __syncthreads();
        // To the slot that everyone has read before the barrier.
        ring.fetch(product.stages - 1, column + step * kStepColumns + (product.stages - 1) * kStageK);
        x = shared_address(ring.read()) + lane_place(lane);
      }
      // Decoding comes first, so that it runs beside the products, but where two sets of A do not fit.
      if constexpr (!kTight<D>) decode_step(streams, a[(step + 1) % 2], column, step + 1);
      multiply_step<D::half>(c, a[step % 2], x, step % kStageSteps);
      if constexpr (kTight<D>) decode_step(streams, a[(step + 1) % 2], column, step + 1);
    }
  }
  __syncthreads();
  auto* const staging = reinterpret_cast<float*>(shared + kRingOffset + warp * kStagingBytes);
#pragma unroll
  for (unsigned i = 0; i < kRowTiles; ++i) {
    store_rows<kColumns>(OutputRows{segment, product.y, product.y_type, product.y_stride, product.batch.m,
                                    place.batch_block * kColumns, (row_tile + i) * kTileRows},
                         &c[i][0][0], staging, lane);
  }
}

constexpr std::size_t shared_bytes(unsigned stages) { return kRingOffset + std::size_t{stages} * Ring::stage_bytes; }

// As many stages as there is memory for; 256 rows a block, or 128 where that leaves multiprocessors without one.
TiledShape shape_of(const LinearCall& call, const Device& device) {
  unsigned stages = 4;
  while (stages > 2 && shared_bytes(stages) > device.shared_bytes_per_block_max) --stages;
  const std::uint32_t warp_rows = kRowTiles * kTileRows;
  TiledShape shape{kThreadsMax / kLanes * warp_rows, kColumns, kThreadsMax, stages, shared_bytes(stages)};
  const std::uint64_t blocks = row_blocks(call, shape, (1U << kSegmentsMax) - 1) * batch_blocks(call, shape);
  if (blocks < static_cast<std::uint64_t>(device.multiprocessors)) {
    shape.threads = kThreadsMax / 2;
    shape.rows /= 2;
  }
  return shape;
}

}  // namespace

LinearPlan plan_block(const LinearCall& call, const Device& device) {
  const TiledShape shape = shape_of(call, device);
  LinearPlan plan = plan_tiled(call, shape);
  plan.loop = Loop::block;
  if (plan.outcome.status != Status::ok) return plan;
  if (device.major < 8) plan.outcome = unsupported("below compute capability 8.0");
  if (device.shared_bytes_per_block_max < shape.shared_bytes) {
    plan.outcome = unsupported("block: too little shared memory");
  }
  return plan;
}

Outcome run_block(const LinearCall& call, const LinearPlan& /*plan*/, const Device& device) {
  return run_tiled(call, shape_of(call, device),
                   [](auto decoding) -> TiledKernel { return multiply<decltype(decoding)>; });
}

}  // namespace cdna_cuda
