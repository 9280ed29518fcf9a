// The stream loop's plan and launch. Segments that need different kernels, by width or type of group scales, are
// launched one kind after the other.
#include "loops.h"
#include "stream.h"

namespace cdna_cuda {
namespace {

bool same_kernel(const Weights& a, const Weights& b) {
  return a.bits == b.bits && a.group_scale_type == b.group_scale_type;
}

// The segments, with rows, that one kernel takes: those like segment `first`; none, if an earlier one is like it.
struct Kind {
  unsigned segments[kSegmentsMax];
  unsigned count = 0;
};

Kind kind_of(const LinearCall& call, unsigned first) {
  Kind kind;
  for (unsigned s = 0; s < call.segment_count; ++s) {
    const Weights& weights = call.segments[s].weights;
    if (weights.rows == 0 || !same_kernel(weights, call.segments[first].weights)) continue;
    if (s < first) return Kind();
    kind.segments[kind.count++] = s;
  }
  return kind;
}

StreamShape shape_of(const LinearCall& call, const Kind& kind, const Device& device) {
  const Weights& weights = call.segments[kind.segments[0]].weights;
  StreamWork work;
  work.bits = weights.bits;
  work.scale = weights.group_scale_type;
  work.segment_count = kind.count;
  for (unsigned i = 0; i < kind.count; ++i) {
    work.row_tiles[i] = tiles_of_rows(call.segments[kind.segments[i]].weights.rows);
  }
  work.column_tiles = tiles_of_columns(weights.cols);
  work.m = call.m;
  work.columns_per_row = call.x_type == Float::f32 ? 2 : 1;
  return choose_stream_shape(work, device, call.splits);
}

unsigned log2_of(unsigned power) {
  unsigned log2 = 0;
  while (power >> log2 > 1) ++log2;
  return log2;
}

StreamSegment stream_segment(const Segment& segment) {
  const Weights& weights = segment.weights;
  StreamSegment result = {};
  result.tiles = static_cast<const unsigned char*>(weights.tiles);
  // Of no columns nothing is read, but places are computed.
  if (result.tiles == nullptr) result.tiles = reinterpret_cast<const unsigned char*>(weights.codebook);
  result.codebook = weights.codebook;
  result.row_scales = weights.row_scales;
  result.group_scales = static_cast<const unsigned char*>(weights.group_scales);
  result.scale_table = weights.scale_table;
  result.outlier_begin = weights.outlier_begin;
  result.outlier_places = weights.outlier_places;
  result.outlier_deltas = weights.outlier_deltas;
  result.bias = static_cast<const unsigned char*>(segment.bias);
  result.y_column = segment.y_column;
  result.rows = weights.rows;
  result.row_tiles = static_cast<std::uint32_t>(tiles_of_rows(weights.rows));
  result.group_shift = log2_of(weights.group);
  return result;
}

bool rows_are_aligned(const LinearCall& call) {
  const auto size = static_cast<std::uint64_t>(size_of(call.x_type));
  return reinterpret_cast<std::uintptr_t>(call.x) % 16 == 0 &&
         static_cast<std::uint64_t>(call.x_stride) * size % 16 == 0;
}

StreamArguments stream_arguments(const LinearCall& call, const Kind& kind, const StreamShape& shape) {
  const Weights& weights = call.segments[kind.segments[0]].weights;
  StreamArguments arguments = {};
  const unsigned block_tiles =
      shape.warps_over_rows * row_tiles_per_warp(weights.bits, shape.column_tiles_of_b, weights.group_scale_type);
  std::uint32_t block = 0;
  for (unsigned i = 0; i < kind.count; ++i) {
    StreamSegment& segment = arguments.segments[i];
    segment = stream_segment(call.segments[kind.segments[i]]);
    segment.block_begin = block;
    block += (segment.row_tiles + block_tiles - 1) / block_tiles;
  }
  arguments.segment_count = kind.count;
  arguments.x = static_cast<const unsigned char*>(call.x);
  arguments.x_stride = call.x_stride;
  arguments.x_type = call.x_type;
  arguments.x_aligned = rows_are_aligned(call);
  arguments.cols = weights.cols;
  arguments.column_tiles = static_cast<std::uint32_t>(tiles_of_columns(weights.cols));
  arguments.m = call.m;
  arguments.y = static_cast<unsigned char*>(call.y);
  arguments.y_type = call.y_type;
  arguments.y_stride = call.y_stride;
  if (shape.splits > 1) {
    arguments.counters = static_cast<std::uint32_t*>(call.workspace);
    arguments.parts = reinterpret_cast<float*>(static_cast<unsigned char*>(call.workspace) + kCounterBytes);
  }
  arguments.splits = shape.splits;
  arguments.warps_over_rows = shape.warps_over_rows;
  arguments.slab_tiles = shape.slab_tiles;
  arguments.staged = shape.staged;
  arguments.row_blocks = static_cast<std::uint32_t>(shape.row_blocks);
  arguments.rows_per_pass = shape.rows_per_pass;
  return arguments;
}

cudaError_t launch_kind(const LinearCall& call, const Kind& kind, const Device& device) {
  const Weights& weights = call.segments[kind.segments[0]].weights;
  StreamLaunch launch;
  launch.shape = shape_of(call, kind, device);
  launch.arguments = stream_arguments(call, kind, launch.shape);
  launch.half = call.x_type == Float::bf16 ? Half::bf16 : Half::f16;
  launch.scale = weights.group_scale_type;
  launch.stream = call.stream;
  switch (weights.bits) {
    case 4:
      return launch_stream_4(launch);
    case 5:
      return launch_stream_5(launch);
    case 6:
      return launch_stream_6(launch);
    default:
      return launch_stream_8(launch);
  }
}

LinearPlan refused(const char* reason) {
  LinearPlan plan;
  plan.outcome = {Status::unsupported, cudaSuccess, reason};
  return plan;
}

}  // namespace

LinearPlan plan_stream(const LinearCall& call, const Device& device) {
  LinearPlan plan;
  plan.loop = Loop::stream;
  for (unsigned s = 0; s < call.segment_count; ++s) {
    const Kind kind = kind_of(call, s);
    if (kind.count == 0 || kind.segments[0] != s) continue;
    if (stream_shared_bytes(call.segments[s].weights.group_scale_type) > device.shared_bytes_per_block_max) {
      return refused("the device has too little shared memory per block");
    }
    const StreamShape shape = shape_of(call, kind, device);
    if (!shape.possible) {
      return refused(call.splits > 1 ? "so many rows cannot be split along k" : "too many rows for one call");
    }
    if (shape.splits > plan.splits) plan.splits = shape.splits;
    if (shape.workspace_bytes > plan.workspace_bytes) plan.workspace_bytes = shape.workspace_bytes;
    plan.blocks += shape.row_blocks * shape.splits * shape.passes;
  }
  return plan;
}

Outcome run_stream(const LinearCall& call, const LinearPlan&, const Device& device) {
  for (unsigned s = 0; s < call.segment_count; ++s) {
    const Kind kind = kind_of(call, s);
    if (kind.count == 0 || kind.segments[0] != s) continue;
    const cudaError_t error = launch_kind(call, kind, device);
    if (error != cudaSuccess) return {Status::device_error, error, "the stream kernel could not be launched"};
  }
  return {};
}

}  // namespace cdna_cuda
