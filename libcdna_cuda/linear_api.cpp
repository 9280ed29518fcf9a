// The C functions that multiply, and that decode.
#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "kernels/cuda/pack.h"
#include "libcdna_cuda/boundary.hpp"
#include "libcdna_cuda/device_memory.hpp"
#include "libcdna_cuda/failure.hpp"
#include "libcdna_cuda/model.hpp"

namespace cdna::cuda {
namespace {

Error bad_argument(std::string message) { return fail(Code::bad_argument, "", std::move(message)); }

Result<cdna_cuda::Float> float_of(std::uint32_t type, const char* what) {
  switch (type) {
    case CDNA_CUDA_F16:
      return cdna_cuda::Float::f16;
    case CDNA_CUDA_BF16:
      return cdna_cuda::Float::bf16;
    case CDNA_CUDA_F32:
      return cdna_cuda::Float::f32;
    default:
      return bad_argument(std::string(what) + " is not CDNA_CUDA_F16, _BF16 or _F32");
  }
}

Result<cdna_cuda::Loop> loop_of(std::uint32_t loop) {
  switch (loop) {
    case CDNA_CUDA_LOOP_AUTOMATIC:
      return cdna_cuda::Loop::automatic;
    case CDNA_CUDA_LOOP_STREAM:
      return cdna_cuda::Loop::stream;
    case CDNA_CUDA_LOOP_BLOCK:
      return cdna_cuda::Loop::block;
    case CDNA_CUDA_LOOP_WGMMA:
      return cdna_cuda::Loop::wgmma;
    default:
      return bad_argument("loop is not one of CDNA_CUDA_LOOP_");
  }
}

Result<const TensorOnDevice*> codebook_tensor(const Model& model, std::uint64_t tensor) {
  if (tensor >= model.names.size()) return bad_argument("there is no tensor " + std::to_string(tensor));
  const NamedTensor& named = model.names[tensor];
  const TensorOnDevice& found = model.tensors[named.tensor];
  if (found.info.encoding == CDNA_CUDA_CODEBOOK) return &found;
  Error error = fail(Code::unsupported, "", "the tensor is exact: its elements are there as they are");
  error.item = named.name;
  return error;
}

// A call of the kernels', and the segments that it points to.
struct Prepared {
  std::array<cdna_cuda::Segment, cdna_cuda::kSegmentsMax> segments{};
  cdna_cuda::LinearCall call;

  Result<void> fill(const Model& model, const cdna_cuda_linear_call& given);
};

Result<void> Prepared::fill(const Model& model, const cdna_cuda_linear_call& given) {
  if (given.segment_count == 0 || given.segment_count > cdna_cuda::kSegmentsMax || given.segments == nullptr)
    return bad_argument("1 to " + std::to_string(cdna_cuda::kSegmentsMax) + " segments are wanted");
  if (given.reserved != 0) return bad_argument("reserved is not 0");
  for (std::uint32_t i = 0; i < given.segment_count; ++i) {
    const cdna_cuda_segment& segment = given.segments[i];
    segments[i] = {CDNA_TRY(codebook_tensor(model, segment.tensor))->weights, segment.bias, segment.y_column};
  }
  call.segments = segments.data();
  call.segment_count = given.segment_count;
  call.x = given.x;
  call.x_type = CDNA_TRY(float_of(given.x_type, "x_type"));
  call.x_stride = given.x_stride;
  call.m = given.m;
  call.y = given.y;
  call.y_type = CDNA_TRY(float_of(given.y_type, "y_type"));
  call.y_stride = given.y_stride;
  call.workspace = given.workspace;
  call.workspace_bytes = given.workspace_bytes;
  call.stream = static_cast<cudaStream_t>(given.stream);
  call.loop = CDNA_TRY(loop_of(given.loop));
  call.splits = given.splits;
  return {};
}

Result<cdna_cuda::LinearPlan> plan_of(const Model& model, const cdna_cuda::LinearCall& call) {
  const cdna_cuda::LinearPlan plan = cdna_cuda::plan(call, model.device);
  CDNA_TRY(check(plan.outcome));
  return plan;
}

std::uint32_t number_of(cdna_cuda::Loop loop) { return static_cast<std::uint32_t>(loop); }
static_assert(static_cast<int>(cdna_cuda::Loop::automatic) == CDNA_CUDA_LOOP_AUTOMATIC &&
              static_cast<int>(cdna_cuda::Loop::stream) == CDNA_CUDA_LOOP_STREAM &&
              static_cast<int>(cdna_cuda::Loop::block) == CDNA_CUDA_LOOP_BLOCK &&
              static_cast<int>(cdna_cuda::Loop::wgmma) == CDNA_CUDA_LOOP_WGMMA);
static_assert(static_cast<int>(cdna_cuda::Curve::pwl) == CDNA_CUDA_CURVE_PWL &&
              static_cast<int>(cdna_cuda::Curve::affine) == CDNA_CUDA_CURVE_AFFINE);

Result<void> give_plan(const cdna_cuda_model* model, const cdna_cuda_linear_call* caller_call,
                       cdna_cuda_linear_plan_info* ret_plan) {
  if (model == nullptr) return bad_argument("model is NULL");
  const cdna_cuda_linear_call given = CDNA_TRY(take_struct(caller_call, "call"));
  Prepared prepared;
  CDNA_TRY(prepared.fill(model->model, given));
  const cdna_cuda::LinearPlan plan = CDNA_TRY(plan_of(model->model, prepared.call));
  cdna_cuda_linear_plan_info info{};
  info.loop = number_of(plan.loop);
  info.splits = plan.splits;
  info.blocks = plan.blocks;
  info.workspace_bytes = plan.workspace_bytes;
  return give_struct(info, ret_plan, "ret_plan");
}

Result<void> multiply(const cdna_cuda_model* model, const cdna_cuda_linear_call* caller_call) {
  if (model == nullptr) return bad_argument("model is NULL");
  const cdna_cuda_linear_call given = CDNA_TRY(take_struct(caller_call, "call"));
  Prepared prepared;
  CDNA_TRY(prepared.fill(model->model, given));
  const CurrentDevice current(model->model.ordinal);
  CDNA_TRY(current.result());
  return check(cdna_cuda::linear(prepared.call, model->model.device));
}

// ---- Products of what is in the host's memory ----

// x, y and bias of one call on the device, dense.
class HostProduct {
 public:
  HostProduct(const Model& model, const cdna_cuda_linear_call& given) : model_(&model), given_(given) {}
  ~HostProduct() {
    if (stream_.get() != nullptr) forget(cudaStreamSynchronize(stream_.get()));  // Before its memory goes.
  }
  HostProduct(const HostProduct&) = delete;
  HostProduct& operator=(const HostProduct&) = delete;

  Result<cdna_cuda_host_result> run();

 private:
  Result<void> check_host();
  Result<void> check_sizes() const;
  Result<void> plan_dense();
  Result<void*> allocate(std::uint64_t bytes);
  Result<void> allocate_all();
  Result<void> copy_in();
  Result<void> copy_out();
  Result<double> multiply();

  const Model* model_;
  cdna_cuda_linear_call given_;
  Prepared prepared_;
  std::uint64_t x_bytes_ = 0;  // Of a row.
  std::uint64_t y_size_ = 0;   // Of an element.
  std::uint64_t y_width_ = 0;  // Columns from 0 to the last that is written.
  cdna_cuda::LinearPlan plan_;
  std::vector<DeviceMemory> memory_;
  std::uint64_t device_bytes_ = 0;
  Stream stream_;
};

Result<void> HostProduct::check_host() {
  CDNA_TRY(prepared_.fill(*model_, given_));
  const std::uint32_t cols = prepared_.segments[0].weights.cols;
  const bool empty = given_.m == 0 || cols == 0;
  if (!empty && given_.x == nullptr) return bad_argument("x is NULL");
  if (given_.m != 0 && given_.y == nullptr) return bad_argument("y is NULL");
  if (given_.m != 0 && given_.x_stride < std::int64_t{cols})
    return bad_argument("rows of x are longer than its stride");
  x_bytes_ = std::uint64_t{cols} * size_of(prepared_.call.x_type);
  y_size_ = size_of(prepared_.call.y_type);
  for (std::uint32_t i = 0; i < given_.segment_count; ++i) {
    const std::uint64_t rows = prepared_.segments[i].weights.rows;
    if (given_.segments[i].y_column > (std::uint64_t{1} << 40)) return bad_argument("a y_column is out of range");
    y_width_ = std::max(y_width_, given_.segments[i].y_column + rows);
  }
  if (given_.m != 0 && given_.y_stride < static_cast<std::int64_t>(y_width_))
    return bad_argument("rows of y are longer than its stride");
  return check_sizes();
}

// That all bytes between the first and the last of x and of y can be counted.
Result<void> HostProduct::check_sizes() const {
  constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 62;
  const auto fits = [this](std::uint64_t row_bytes) { return given_.m == 0 || row_bytes <= kBytesMax / given_.m; };
  const auto stride_fits = [&fits](std::int64_t stride, std::uint64_t size) {
    return stride <= 0 ||
           (static_cast<std::uint64_t>(stride) <= kBytesMax / size && fits(static_cast<std::uint64_t>(stride) * size));
  };
  const bool one_row = given_.m <= 1;  // Its stride leads nowhere.
  if (!fits(x_bytes_) || (!one_row && !stride_fits(given_.x_stride, size_of(prepared_.call.x_type))))
    return bad_argument("x is larger than any memory");
  if (!fits(y_width_ * y_size_) || (!one_row && !stride_fits(given_.y_stride, y_size_)))
    return bad_argument("y is larger than any memory");
  return {};
}

// The plan for x, y and biases without gaps, aligned as what is allocated is, before anything is.
Result<void> HostProduct::plan_dense() {
  static constexpr std::uintptr_t kAligned = 256;
  cdna_cuda::LinearCall& call = prepared_.call;
  void* const aligned = reinterpret_cast<void*>(kAligned);
  call.x = aligned;
  call.x_stride = static_cast<std::int64_t>(x_bytes_ / size_of(call.x_type));
  call.y = aligned;
  call.y_stride = static_cast<std::int64_t>(y_width_);
  for (std::uint32_t i = 0; i < given_.segment_count; ++i)
    prepared_.segments[i].bias = given_.segments[i].bias == nullptr ? nullptr : aligned;
  call.workspace = nullptr;
  call.workspace_bytes = 0;
  plan_ = CDNA_TRY(plan_of(*model_, call));
  return {};
}

Result<void*> HostProduct::allocate(std::uint64_t bytes) {
  memory_.push_back(CDNA_TRY(allocate_device(bytes)));
  device_bytes_ += bytes;
  return memory_.back().get();
}

Result<void> HostProduct::allocate_all() {
  cdna_cuda::LinearCall& call = prepared_.call;
  call.x = CDNA_TRY(allocate(given_.m * x_bytes_));
  call.y = CDNA_TRY(allocate(given_.m * y_width_ * y_size_));
  for (std::uint32_t i = 0; i < given_.segment_count; ++i) {
    cdna_cuda::Segment& segment = prepared_.segments[i];
    if (segment.bias != nullptr) segment.bias = CDNA_TRY(allocate(segment.weights.rows * y_size_));
  }
  call.workspace = CDNA_TRY(allocate(plan_.workspace_bytes));
  call.workspace_bytes = plan_.workspace_bytes;
  stream_ = CDNA_TRY(create_stream());
  call.stream = stream_.get();
  return {};
}

Result<void> HostProduct::copy_in() {
  const cdna_cuda::LinearCall& call = prepared_.call;
  if (x_bytes_ != 0 && given_.m != 0) {
    const std::uint64_t pitch =
        given_.m > 1 ? static_cast<std::uint64_t>(given_.x_stride) * size_of(call.x_type) : x_bytes_;
    CDNA_TRY(check(cudaMemcpy2DAsync(const_cast<void*>(call.x), x_bytes_, given_.x, pitch, x_bytes_, given_.m,
                                     cudaMemcpyHostToDevice, call.stream),
                   "copying x to the device"));
  }
  for (std::uint32_t i = 0; i < given_.segment_count; ++i) {
    const cdna_cuda::Segment& segment = prepared_.segments[i];
    if (segment.bias == nullptr) continue;
    CDNA_TRY(check(cudaMemcpyAsync(const_cast<void*>(segment.bias), given_.segments[i].bias,
                                   segment.weights.rows * y_size_, cudaMemcpyHostToDevice, call.stream),
                   "copying a bias to the device"));
  }
  return {};
}

Result<double> HostProduct::multiply() {
  const cdna_cuda::LinearCall& call = prepared_.call;
  if (plan_.workspace_bytes != 0) {
    CDNA_TRY(check(cudaMemsetAsync(call.workspace, 0, plan_.workspace_bytes, call.stream), "clearing the workspace"));
  }
  const Event begin = CDNA_TRY(create_event());
  const Event end = CDNA_TRY(create_event());
  CDNA_TRY(check(cudaEventRecord(begin.get(), call.stream), "recording an event"));
  CDNA_TRY(check(cdna_cuda::linear(call, model_->device)));
  CDNA_TRY(check(cudaEventRecord(end.get(), call.stream), "recording an event"));
  CDNA_TRY(check(cudaStreamSynchronize(call.stream), "multiplying on the device"));
  float milliseconds = 0;
  CDNA_TRY(check(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "measuring time on the device"));
  return static_cast<double>(milliseconds) * 1e-3;
}

// By way of memory of its own, so that y is written on success only.
Result<void> HostProduct::copy_out() {
  const std::uint64_t row_bytes = y_width_ * y_size_;
  if (row_bytes == 0 || given_.m == 0) return {};
  std::vector<std::byte> rows(given_.m * row_bytes);
  CDNA_TRY(check(cudaMemcpyAsync(rows.data(), prepared_.call.y, rows.size(), cudaMemcpyDeviceToHost, stream_.get()),
                 "copying y from the device"));
  CDNA_TRY(check(cudaStreamSynchronize(stream_.get()), "copying y from the device"));
  for (std::uint64_t row = 0; row < given_.m; ++row) {
    std::byte* const to =
        static_cast<std::byte*>(given_.y) + row * static_cast<std::uint64_t>(given_.y_stride) * y_size_;
    for (std::uint32_t i = 0; i < given_.segment_count; ++i) {
      const std::uint64_t begin = given_.segments[i].y_column * y_size_;
      std::memcpy(to + begin, rows.data() + row * row_bytes + begin, prepared_.segments[i].weights.rows * y_size_);
    }
  }
  return {};
}

Result<cdna_cuda_host_result> HostProduct::run() {
  CDNA_TRY(check_host());
  CDNA_TRY(plan_dense());
  CDNA_TRY(allocate_all());
  CDNA_TRY(copy_in());
  cdna_cuda_host_result result{};
  result.seconds = CDNA_TRY(multiply());
  CDNA_TRY(copy_out());
  result.loop = number_of(plan_.loop);
  result.splits = plan_.splits;
  result.blocks = plan_.blocks;
  result.workspace_bytes = plan_.workspace_bytes;
  result.device_bytes = device_bytes_;
  return result;
}

Result<void> multiply_host(const cdna_cuda_model* model, const cdna_cuda_linear_call* caller_call,
                           cdna_cuda_host_result* ret_result) {
  if (model == nullptr) return bad_argument("model is NULL");
  const cdna_cuda_linear_call given = CDNA_TRY(take_struct(caller_call, "call"));
  cdna_cuda_host_result unwanted{};
  unwanted.struct_size = sizeof unwanted;
  if (ret_result == nullptr) ret_result = &unwanted;
  if (ret_result->struct_size < sizeof ret_result->struct_size)
    return bad_argument("ret_result: struct_size is not set");
  const CurrentDevice current(model->model.ordinal);
  CDNA_TRY(current.result());
  HostProduct product(model->model, given);
  const cdna_cuda_host_result result = CDNA_TRY(product.run());
  return give_struct(result, ret_result, "ret_result");
}

// ---- Numbers ----

Result<void> decode(const cdna_cuda_model* model, std::uint64_t tensor, cdna_cuda::Dequantise& call,
                    std::uint64_t row_begin, std::uint64_t row_end, std::uint32_t type, void* stream) {
  if (model == nullptr) return bad_argument("model is NULL");
  const TensorOnDevice& found = *CDNA_TRY(codebook_tensor(model->model, tensor));
  if (row_begin > row_end || row_end > found.info.rows) {
    return bad_argument("rows " + std::to_string(row_begin) + " to " + std::to_string(row_end) + " of " +
                        std::to_string(found.info.rows) + " were asked for");
  }
  call.weights = found.weights;
  call.row_begin = static_cast<std::uint32_t>(row_begin);
  call.row_end = static_cast<std::uint32_t>(row_end);
  call.type = CDNA_TRY(float_of(type, "type"));
  const CurrentDevice current(model->model.ordinal);
  CDNA_TRY(current.result());
  return check(cdna_cuda::dequantise(call, static_cast<cudaStream_t>(stream)));
}

}  // namespace
}  // namespace cdna::cuda

extern "C" {

cdna_cuda_code cdna_cuda_linear_plan(const cdna_cuda_model* model, const cdna_cuda_linear_call* call,
                                     cdna_cuda_linear_plan_info* ret_plan, cdna_cuda_error* error) {
  return cdna::cuda::guarded(error, [&] { return cdna::cuda::give_plan(model, call, ret_plan); });
}

cdna_cuda_code cdna_cuda_linear(const cdna_cuda_model* model, const cdna_cuda_linear_call* call,
                                cdna_cuda_error* error) {
  return cdna::cuda::guarded(error, [&] { return cdna::cuda::multiply(model, call); });
}

cdna_cuda_code cdna_cuda_linear_host(const cdna_cuda_model* model, const cdna_cuda_linear_call* call,
                                     cdna_cuda_host_result* ret_result, cdna_cuda_error* error) {
  return cdna::cuda::guarded(error, [&] { return cdna::cuda::multiply_host(model, call, ret_result); });
}

cdna_cuda_code cdna_cuda_dequantize(const cdna_cuda_model* model, uint64_t tensor, uint64_t row_begin, uint64_t row_end,
                                    void* out, uint32_t type, int64_t stride, void* stream, cdna_cuda_error* error) {
  return cdna::cuda::guarded(error, [&] {
    cdna_cuda::Dequantise decoding;
    decoding.out = out;
    decoding.stride = stride;
    return cdna::cuda::decode(model, tensor, decoding, row_begin, row_end, type, stream);
  });
}

}  // extern "C"
