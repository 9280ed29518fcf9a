// The product: checks that hold for all main loops, and the choice between them.
#include "linear.h"
#include "loops.h"

namespace cdna_cuda {
namespace {

constexpr std::uint32_t kColsEnd = std::uint32_t{1} << 28;  // Outliers have 28 bits for the column.

Outcome bad(const char* reason) { return {Status::bad_argument, cudaSuccess, reason}; }
Outcome unsupported(const char* reason) { return {Status::unsupported, cudaSuccess, reason}; }

bool aligned(const void* pointer, std::size_t bytes) { return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0; }

Outcome check_device(const Device& device) {
  if (device.major < 8) return unsupported("the device is older than compute capability 8.0");
  if (device.multiprocessors < 1) return bad("the device has no multiprocessors");
  return {};
}

Outcome check_scales(const Weights& weights) {
  if (weights.group_scale_type == ScaleType::none) {
    if (weights.group != 0) return bad("a group without a type of group scales");
    return {};
  }
  if (weights.group_scale_type != ScaleType::u8 && weights.group_scale_type != ScaleType::f32) {
    return unsupported("group scales are neither u8 nor f32");
  }
  if (weights.group != 32 && weights.group != 64 && weights.group != 128) {
    return unsupported("groups are not of 32, 64 or 128 columns");
  }
  if (weights.group_scales == nullptr) return bad("no group scales");
  if (weights.group_scale_type == ScaleType::u8 && weights.scale_table == nullptr) return bad("no scale table");
  return {};
}

Outcome check_outliers(const Weights& weights) {
  if (weights.outlier_begin == nullptr) return {};
  if (weights.outlier_places == nullptr || weights.outlier_values == nullptr || weights.outlier_deltas == nullptr) {
    return bad("outliers without places, values or deltas");
  }
  return {};
}

}  // namespace

Outcome check_weights(const Weights& weights) {
  if (weights.bits != 4 && weights.bits != 5 && weights.bits != 6 && weights.bits != 8) {
    return unsupported("codes are not of 4, 5, 6 or 8 bits on the device");
  }
  if (weights.cols >= kColsEnd) return unsupported("2^28 columns or more");
  if (tiles_of_rows(weights.rows) * tiles_of_columns(weights.cols) > 0xFFFFFFFFU) {
    return unsupported("more than 2^32 - 1 tiles");
  }
  if (weights.tiles == nullptr && weights.cols > 0) return bad("no codes");
  if (weights.codebook == nullptr) return bad("no codebook");
  if (weights.curve != Curve::none && weights.lines == nullptr) return bad("a curve without its lines");
  for (const void* const pointer :
       {weights.tiles, static_cast<const void*>(weights.codebook), static_cast<const void*>(weights.lines),
        static_cast<const void*>(weights.row_scales), weights.group_scales,
        static_cast<const void*>(weights.scale_table), static_cast<const void*>(weights.outlier_begin),
        static_cast<const void*>(weights.outlier_places), static_cast<const void*>(weights.outlier_values),
        static_cast<const void*>(weights.outlier_deltas)}) {
    if (!aligned(pointer, 16)) return bad("a part of the weights is not aligned to 16 bytes");
  }
  const Outcome scales = check_scales(weights);
  return scales.status == Status::ok ? check_outliers(weights) : scales;
}

namespace {

bool is_float(Float type) { return type == Float::f16 || type == Float::bf16 || type == Float::f32; }

bool overlap(const Segment& a, const Segment& b) {
  return a.y_column < b.y_column ? b.y_column - a.y_column < a.weights.rows && b.weights.rows > 0
                                 : a.y_column - b.y_column < b.weights.rows && a.weights.rows > 0;
}

Outcome check_segments(const LinearCall& call) {
  if (call.segments == nullptr || call.segment_count == 0) return bad("no segments");
  if (call.segment_count > kSegmentsMax) return unsupported("more than 8 segments");
  for (unsigned s = 0; s < call.segment_count; ++s) {
    const Segment& segment = call.segments[s];
    if (segment.weights.cols != call.segments[0].weights.cols) return bad("segments have different numbers of columns");
    if (segment.weights.rows == 0) continue;
    const Outcome weights = check_weights(segment.weights);
    if (weights.status != Status::ok) return weights;
    if (!aligned(segment.bias, size_of(call.y_type))) return bad("a bias is not aligned to its element");
    const auto stride = static_cast<std::uint64_t>(call.y_stride < 0 ? 0 : call.y_stride);
    if (call.m > 0 && (segment.y_column > stride || segment.weights.rows > stride - segment.y_column)) {
      return bad("rows of y are longer than its stride");
    }
    for (unsigned other = 0; other < s; ++other) {
      if (overlap(segment, call.segments[other])) return bad("segments overlap in y");
    }
  }
  return {};
}

bool nothing_to_do(const LinearCall& call) {
  if (call.m == 0) return true;
  for (unsigned s = 0; s < call.segment_count; ++s) {
    if (call.segments[s].weights.rows > 0) return false;
  }
  return true;
}

Outcome check_call(const LinearCall& call) {
  if (!is_float(call.x_type) || !is_float(call.y_type)) return unsupported("x or y is not f16, bf16 or f32");
  const Outcome segments = check_segments(call);
  if (segments.status != Status::ok || nothing_to_do(call)) return segments;
  const std::uint32_t cols = call.segments[0].weights.cols;
  if (call.x == nullptr && cols > 0) return bad("no x");
  if (call.y == nullptr) return bad("no y");
  if (!aligned(call.x, size_of(call.x_type))) return bad("x is not aligned to its element");
  if (!aligned(call.y, size_of(call.y_type))) return bad("y is not aligned to its element");
  if (call.x_stride < std::int64_t{cols}) return bad("rows of x are longer than its stride");
  return {};
}

LinearPlan plan_checked(const LinearCall& call, const Device& device) {
  switch (call.loop) {
    case Loop::stream:
      return plan_stream(call, device);
    case Loop::block:
      return plan_block(call, device);
    case Loop::wgmma:
      return plan_wgmma(call, device);
    default:
      break;
  }
  // Up to here W's bytes are what takes the time (NOTES.md); f32 has no other loop.
  constexpr std::uint32_t kStreamRows = 64;
  if (call.m <= kStreamRows || call.x_type == Float::f32) return plan_stream(call, device);
  const LinearPlan wgmma = plan_wgmma(call, device);
  if (wgmma.outcome.status == Status::ok) return wgmma;
  const LinearPlan block = plan_block(call, device);
  return block.outcome.status == Status::ok ? block : plan_stream(call, device);
}

Outcome check_workspace(const LinearCall& call, const LinearPlan& plan) {
  if (plan.workspace_bytes == 0) return {};
  if (call.workspace == nullptr) return bad("no workspace");
  if (call.workspace_bytes < plan.workspace_bytes) return bad("the workspace is smaller than planned");
  if (!aligned(call.workspace, 256)) return bad("the workspace is not aligned to 256 bytes");
  return {};
}

}  // namespace

Outcome query_device(int ordinal, Device* device) {
  const auto attribute = [ordinal](cudaDeviceAttr name, int* value) {
    return cudaDeviceGetAttribute(value, name, ordinal);
  };
  int per_block = 0;
  int per_multiprocessor = 0;
  *device = Device();
  cudaError_t error = attribute(cudaDevAttrComputeCapabilityMajor, &device->major);
  if (error == cudaSuccess) error = attribute(cudaDevAttrComputeCapabilityMinor, &device->minor);
  if (error == cudaSuccess) error = attribute(cudaDevAttrMultiProcessorCount, &device->multiprocessors);
  if (error == cudaSuccess) error = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, &per_block);
  if (error == cudaSuccess) error = attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, &per_multiprocessor);
  if (error != cudaSuccess) return {Status::device_error, error, "the device cannot be asked for its attributes"};
  device->shared_bytes_per_block_max = static_cast<std::size_t>(per_block);
  device->shared_bytes_per_multiprocessor = static_cast<std::size_t>(per_multiprocessor);
  return check_device(*device);
}

LinearPlan plan(const LinearCall& call, const Device& device) {
  LinearPlan nothing;
  nothing.outcome = check_device(device);
  if (nothing.outcome.status == Status::ok) nothing.outcome = check_call(call);
  if (nothing.outcome.status != Status::ok || nothing_to_do(call)) return nothing;
  return plan_checked(call, device);
}

Outcome linear(const LinearCall& call, const Device& device) {
  const LinearPlan planned = plan(call, device);
  if (planned.outcome.status != Status::ok || planned.blocks == 0) return planned.outcome;
  const Outcome workspace = check_workspace(call, planned);
  if (workspace.status != Status::ok) return workspace;
  switch (planned.loop) {
    case Loop::wgmma:
      return run_wgmma(call, planned, device);
    case Loop::block:
      return run_block(call, planned, device);
    default:
      return run_stream(call, planned, device);
  }
}

}  // namespace cdna_cuda
