// One tensor, one product, and everything given back.
#include "tools/cdna/device_product.hpp"

#include <cstring>
#include <memory>
#include <vector>

#include "tools/cuda_library.hpp"

namespace cdna::tools {
namespace {

std::uint32_t type_of(DType dtype) {
  return dtype == DType::f16 ? CDNA_CUDA_F16 : dtype == DType::bf16 ? CDNA_CUDA_BF16 : CDNA_CUDA_F32;
}

// A tensor's name as a pattern that matches nothing else.
std::string pattern_of(const std::string& name) {
  std::string pattern;
  for (const char each : name) {
    if (std::strchr("*?[]\\", each) != nullptr) pattern += '\\';
    pattern += each;
  }
  return pattern;
}

// x row after row, copied where it lies otherwise.
const std::byte* row_major(const ConstMatrix& x, std::vector<std::byte>& copy) {
  const auto* const from = static_cast<const std::byte*>(x.data);
  if (x.col_stride == 1 || x.cols == 1) return from;
  const std::uint64_t size = bits_of(x.dtype) / 8;
  copy.resize(x.rows * x.cols * size);
  for (std::uint64_t row = 0; row < x.rows; ++row) {
    for (std::uint64_t col = 0; col < x.cols; ++col) {
      const auto place = static_cast<std::uint64_t>(static_cast<std::int64_t>(row) * x.row_stride +
                                                    static_cast<std::int64_t>(col) * x.col_stride);
      std::memcpy(copy.data() + (row * x.cols + col) * size, from + place * size, size);
    }
  }
  return copy.data();
}

// That there is no device is no fault of the file.
Error unavailable(const cdna_cuda_error& error) {
  Error out = error_of(error);
  if (out.code == Code::unsupported) out.code = Code::not_found;
  return out;
}

}  // namespace

Result<DeviceProduct> multiply_on_device(const DeviceRequest& request) {
  const auto library = CudaLibrary::load();
  if (!library) return library.error();
  cdna_cuda_error error{};
  if (library->device_supported(request.ordinal, &error) != CDNA_CUDA_OK) return unavailable(error);
  cdna_cuda_upload_options options = CDNA_CUDA_UPLOAD_OPTIONS_INIT;
  options.device = request.ordinal;
  options.row_begin = request.row_begin;
  options.row_end = request.row_end;
  options.threads = request.threads;
  options.trust = request.trust;
  options.expected_root = reinterpret_cast<const std::uint8_t*>(request.root.data());
  cdna_cuda_model* handle = nullptr;
  if (library->upload(request.file.c_str(), pattern_of(request.tensor).c_str(), &options, &handle, &error) !=
      CDNA_CUDA_OK)
    return error_of(error);
  const std::unique_ptr<cdna_cuda_model, decltype(library->free)> model(handle, library->free);
  DeviceProduct out;
  out.upload.struct_size = sizeof out.upload;
  out.product.struct_size = sizeof out.product;
  cdna_cuda_segment segment{};
  std::vector<std::byte> copy;
  cdna_cuda_linear_call call = CDNA_CUDA_LINEAR_CALL_INIT;
  call.segments = &segment;
  call.segment_count = 1;
  call.x = row_major(request.x, copy);
  call.x_stride = static_cast<std::int64_t>(request.x.cols);
  call.x_type = type_of(request.x.dtype);
  call.m = static_cast<std::uint32_t>(request.x.rows);
  call.y = request.y.data;
  call.y_stride = request.y.row_stride;
  call.y_type = type_of(request.y.dtype);
  if (library->report(model.get(), &out.upload, &error) != CDNA_CUDA_OK ||
      library->find(model.get(), request.tensor.c_str(), &segment.tensor, &error) != CDNA_CUDA_OK ||
      library->linear_host(model.get(), &call, &out.product, &error) != CDNA_CUDA_OK)
    return error_of(error);
  return out;
}

const char* loop_name(std::uint32_t loop) {
  constexpr const char* kNames[] = {"automatic", "stream", "block", "wgmma"};
  return loop < std::size(kNames) ? kNames[loop] : "unknown";
}

const char* stage_name(std::uint32_t stage) {
  constexpr const char* kNames[] = {"read", "fill", "copy", "permute"};
  return stage < std::size(kNames) ? kNames[stage] : "unknown";
}

}  // namespace cdna::tools
