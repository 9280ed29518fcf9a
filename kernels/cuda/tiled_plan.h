// What the block and wgmma loops share on the host: what they refuse, and the launches of a call.
#pragma once

#include "launch.h"
#include "product_grid.h"
#include "scaled_fragment.h"

namespace cdna_cuda {

// A block's part of y, rows of W times columns of the batch, and what it is launched with.
struct TiledShape {
  std::uint32_t rows;
  std::uint32_t columns;
  unsigned threads;
  unsigned stages;
  std::size_t shared_bytes;
};

using TiledKernel = void (*)(const TiledProduct);

inline Outcome unsupported(const char* reason) { return {Status::unsupported, cudaSuccess, reason}; }

// Row blocks of the segments `chosen` (bit i: segment i).
inline std::uint64_t row_blocks(const LinearCall& call, const TiledShape& shape, unsigned chosen) {
  std::uint64_t blocks = 0;
  for (unsigned i = 0; i < call.segment_count; ++i) {
    if (chosen >> i & 1U) blocks += (std::uint64_t{call.segments[i].weights.rows} + shape.rows - 1) / shape.rows;
  }
  return blocks;
}

inline std::uint64_t batch_blocks(const LinearCall& call, const TiledShape& shape) {
  return (std::uint64_t{call.m} + shape.columns - 1) / shape.columns;
}

// Why the loops that round w / row scale to 16 bits cannot serve the weights, or null. Outliers of rows with scale 0
// are too large for every type.
inline const char* refusal(const Weights& weights, Float x_type) {
  if (weights.cols == 0) return "no columns";
  // Two tiles less than the place of an outlier can say: operands are decoded a tile ahead.
  if (weights.cols > (1U << 28) - 3 * kTileColumns) return "more columns than the place of an outlier can say";
  if (tiles_of_rows(weights.rows) * tiles_of_columns(weights.cols) >= 1U << 28) return "more than 2^28 tiles";
  if (weights.outlier_begin != nullptr && !weights.outliers_fit_f16)
    return "an outlier is too large beside its row scale";
  if (weights.group_scale_type != ScaleType::none && !weights.scaled_fit_f16 && x_type == Float::f16) {
    return "an entry times its group scale is too large for f16";
  }
  return nullptr;
}

// The plan but for its loop and what a device has to have.
inline LinearPlan plan_tiled(const LinearCall& call, const TiledShape& shape) {
  LinearPlan plan;
  if (call.x_type == Float::f32) plan.outcome = unsupported("x is f32: only the stream loop takes it");
  for (unsigned i = 0; i < call.segment_count; ++i) {
    const char* const reason = refusal(call.segments[i].weights, call.x_type);
    if (reason != nullptr) plan.outcome = unsupported(reason);
  }
  plan.blocks = row_blocks(call, shape, (1U << kSegmentsMax) - 1) * batch_blocks(call, shape);
  if (plan.blocks > 0x7FFFFFFFU) plan.outcome = unsupported("more blocks than a grid has");
  return plan;
}

// What decides which kernel serves a segment.
struct DecodingChoice {
  Codes codes;
  Half half;
  bool grouped;
};

inline DecodingChoice decoding_of(const Weights& weights, Float x_type) {
  const Half half = x_type == Float::f16 ? Half::f16 : Half::bf16;
  const bool affine = weights.bits == 8 && weights.curve == Curve::affine && half == Half::f16;
  return {weights.bits == 4 ? Codes::pairs
          : affine          ? Codes::affine
                            : Codes::bytes,
          half, weights.group_scale_type != ScaleType::none};
}

inline bool same(const DecodingChoice& a, const DecodingChoice& b) {
  return a.codes == b.codes && a.half == b.half && a.grouped == b.grouped;
}

template <Half half, bool grouped, class KernelOf>
TiledKernel kernel_of(Codes codes, const KernelOf& of) {
  if constexpr (half == Half::f16) {
    if (codes == Codes::affine) return of(Decoding<Codes::affine, half, grouped>());
  }
  if (codes == Codes::pairs) return of(Decoding<Codes::pairs, half, grouped>());
  return of(Decoding<Codes::bytes, half, grouped>());
}

template <class KernelOf>
TiledKernel kernel_of(const DecodingChoice& choice, const KernelOf& of) {
  if (choice.half == Half::f16) {
    return choice.grouped ? kernel_of<Half::f16, true>(choice.codes, of)
                          : kernel_of<Half::f16, false>(choice.codes, of);
  }
  return choice.grouped ? kernel_of<Half::bf16, true>(choice.codes, of)
                        : kernel_of<Half::bf16, false>(choice.codes, of);
}

inline Batch batch_of(const LinearCall& call) {
  const std::uint32_t cols = call.segments[0].weights.cols;
  const bool by_16_bytes = reinterpret_cast<std::uintptr_t>(call.x) % 16 == 0 && call.x_stride % 8 == 0;
  return {static_cast<const unsigned char*>(call.x), call.x_stride, call.m, cols, by_16_bytes};
}

inline TiledProduct product_of(const LinearCall& call, const TiledShape& shape, unsigned chosen) {
  TiledProduct product{};
  unsigned count = 0;
  for (unsigned i = 0; i < call.segment_count; ++i) {
    if ((chosen >> i & 1U) == 0) continue;
    product.segments[count++] = call.segments[i];
    const auto before = static_cast<std::uint32_t>(row_blocks(call, shape, chosen & ((2U << i) - 1)));
    for (unsigned j = count; j <= kSegmentsMax; ++j) product.row_blocks_before[j] = before;
  }
  product.batch_blocks = static_cast<std::uint32_t>(batch_blocks(call, shape));
  product.stages = shape.stages;
  product.batch = batch_of(call);
  product.y = static_cast<unsigned char*>(call.y);
  product.y_type = call.y_type;
  product.y_stride = call.y_stride;
  return product;
}

// Launches the call: segments that need the same kernel together. of(Decoding<...>()) is a kernel.
template <class KernelOf>
Outcome run_tiled(const LinearCall& call, const TiledShape& shape, const KernelOf& of) {
  unsigned left = (1U << call.segment_count) - 1;
  for (unsigned i = 0; i < call.segment_count; ++i) {
    if ((left >> i & 1U) == 0) continue;
    const DecodingChoice choice = decoding_of(call.segments[i].weights, call.x_type);
    unsigned chosen = 0;
    for (unsigned j = i; j < call.segment_count; ++j) {
      if (same(choice, decoding_of(call.segments[j].weights, call.x_type))) chosen |= 1U << j;
    }
    left &= ~chosen;
    const std::uint64_t blocks = row_blocks(call, shape, chosen) * batch_blocks(call, shape);
    if (blocks == 0) continue;
    const cudaError_t error = launch(kernel_of(choice, of), dim3(static_cast<unsigned>(blocks)), dim3(shape.threads),
                                     shape.shared_bytes, call.stream, product_of(call, shape, chosen));
    if (error != cudaSuccess) return {Status::device_error, error, cudaGetErrorString(error)};
  }
  return {};
}

}  // namespace cdna_cuda
