// The main loop for large m on sm_90a: wgmma with W as A from registers and x as B from shared memory.
//
// A block is two warpgroups of 64 rows each and 256 columns of the batch. While the products of 64 k are under way, the
// A operands of the next 64 are decoded to a second set of registers.
#include "launch.h"
#include "loops.h"
#include "output_rows.h"
#include "product_grid.h"
#include "scaled_fragment.h"
#include "tiled_plan.h"

namespace cdna_cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kWarps = kThreads / kLanes;
constexpr unsigned kRows = kWarps * kTileRows;  // 128
constexpr unsigned kColumns = 256;
constexpr unsigned kStages = 4;  // 32 KiB each.
constexpr std::size_t kSharedBytes = kRingOffset + kStages * BatchRing<kColumns>::stage_bytes;

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define CDNA_WGMMA_HERE
#endif

#ifdef CDNA_WGMMA_HERE
// Of the ring's stages two are read, one of them by products still under way, and these are filled.
constexpr unsigned kFetchAhead = kStages - 2;
constexpr unsigned kAhead = 2;  // Stages of codes: 1.2 us.

using StageOperands = std::uint32_t[kStageSteps][4];

template <class D>
CDNA_DEVICE void decode_stage(FragmentStream<D, kAhead>& weights, StageOperands& a, std::uint32_t column,
                              unsigned first_step) {
#pragma unroll
  for (unsigned i = 0; i < kStageSteps; ++i) weights.decode(a[i], column, first_step + i);
}

CDNA_DEVICE void pin_operands(StageOperands& a) {
#pragma unroll
  for (unsigned i = 0; i < kStageSteps; ++i) pin_registers(a[i]);
}

// Products of the stage that is in the ring now, of columns from k on, with `a`; those of the stage before, with
// `before`, are over when this returns, its own are not.
template <Half half>
CDNA_DEVICE void multiply_stage(float (&c)[kColumns / 2], StageOperands& a, StageOperands& before,
                                BatchRing<kColumns>& ring, std::uint32_t k) {
  copy_async_wait<kFetchAhead - 1>();
  fence_shared_for_wgmma();
  __syncthreads();
  // To the slot whose products everyone has waited for before the barrier.
  ring.fetch(kFetchAhead, k + kFetchAhead * kStageK);
  const std::uint32_t x = shared_address(ring.read());
  // Registers of products under way are read and written behind the compiler's back: all that makes them comes before
  // the fence, all that uses or replaces them after the wait.
  pin_operands(a);
  pin_registers(c);
  wgmma_fence();
#pragma unroll
  for (unsigned i = 0; i < kStageSteps; ++i) wgmma_m64n256k16<half>(c, a[i], swizzled_descriptor(x, i));
  wgmma_commit();
  wgmma_wait<1>();
  pin_operands(before);
}
#endif

template <class D>
__global__ void __launch_bounds__(kThreads, 1) multiply(const __grid_constant__ TiledProduct product) {
#ifdef CDNA_WGMMA_HERE
  CDNA_SHARED(shared);
  const BlockPlace place = place_of_block(product.row_blocks_before, product.batch_blocks, blockIdx.x);
  const Segment& segment = copy_segment(product.segments[place.segment], shared + kTableBytes);
  const Weights& weights = segment.weights;
  const unsigned warp = threadIdx.x / kLanes;
  const unsigned lane = threadIdx.x % kLanes;
  BatchRing<kColumns> ring(shared + kRingOffset, kStages, product.batch, place.batch_block * kColumns);
  for (unsigned i = 0; i < kFetchAhead; ++i) ring.fetch(i, i * kStageK);

  const std::uint32_t row_tile = place.row_block * kWarps + warp;
  FragmentStream<D, kAhead> stream(weights, row_tile, shared, lane);
  fill_table<D>(shared, weights);
  __syncthreads();

  float c[kColumns / 2];
#pragma unroll
  for (unsigned i = 0; i < kColumns / 2; ++i) c[i] = 0.0F;
  StageOperands even;
  StageOperands odd = {};
  decode_stage(stream, even, 0, 0);
#pragma unroll 1
  for (std::uint32_t column = 0; column < weights.cols; column += kTileColumns) {
    multiply_stage<D::half>(c, even, odd, ring, column);
    decode_stage(stream, odd, column, kStageSteps);
    multiply_stage<D::half>(c, odd, even, ring, column + kStageK);
    decode_stage(stream, even, column + kTileColumns, 0);
  }
  wgmma_wait<0>();
  pin_registers(c);
  __syncthreads();
  auto* const staging = reinterpret_cast<float*>(shared + kRingOffset + warp * kStagingBytes);
  store_rows<kColumns>(OutputRows{segment, product.y, product.y_type, product.y_stride, product.batch.m,
                                  place.batch_block * kColumns, row_tile * kTileRows},
                       c, staging, lane);
#else
  __trap();  // Built without sm_90a: no product at all rather than a wrong one.
#endif
}

constexpr TiledShape kShape{kRows, kColumns, kThreads, kStages, kSharedBytes};

}  // namespace

LinearPlan plan_wgmma(const LinearCall& call, const Device& device) {
  LinearPlan plan = plan_tiled(call, kShape);
  plan.loop = Loop::wgmma;
  if (plan.outcome.status != Status::ok) return plan;
#ifndef CDNA_CUDA_SM90A
  plan.outcome = unsupported("wgmma: not built for sm_90a");
#endif
  if (device.major != 9) plan.outcome = unsupported("wgmma is of compute capability 9.0 only");
  if (device.shared_bytes_per_block_max < kSharedBytes) plan.outcome = unsupported("wgmma: too little shared memory");
  return plan;
}

Outcome run_wgmma(const LinearCall& call, const LinearPlan& /*plan*/, const Device& /*device*/) {
  return run_tiled(call, kShape, [](auto decoding) -> TiledKernel { return multiply<decltype(decoding)>; });
}

}  // namespace cdna_cuda
