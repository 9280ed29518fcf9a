// The C functions of devices, uploads and what a model holds.
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "libcdna_cuda/boundary.hpp"
#include "libcdna_cuda/failure.hpp"
#include "libcdna_cuda/model.hpp"
#include "libcdna_cuda/ring.hpp"
#include "libcdna_cuda/upload.hpp"

namespace cdna::cuda {
namespace {

Error bad_argument(std::string message) { return fail(Code::bad_argument, "", std::move(message)); }

Result<Slice> slice_of(const cdna_cuda_upload_options& given) {
  const bool has_rows = given.row_begin != 0 || given.row_end != 0;
  if (given.shard_count == 0 && given.shard_index != 0) return bad_argument("a shard_index without a shard_count");
  if (given.shard_count != 0 && has_rows) return bad_argument("rows and a shard exclude each other");
  if (given.shard_count != 0 && given.shard_index >= given.shard_count)
    return bad_argument("shard " + std::to_string(given.shard_index) + " of " + std::to_string(given.shard_count));
  return Slice{given.row_begin, given.row_end, given.shard_index, given.shard_count};
}

Result<Trust> trust_of(std::uint32_t trust) {
  switch (trust) {
    case CDNA_CUDA_TRUST_AUTOMATIC:
      return Trust::automatic;
    case CDNA_CUDA_TRUST_ZERO_COPY:
      return Trust::zero_copy;
    case CDNA_CUDA_TRUST_STRICT:
      return Trust::strict;
    default:
      return bad_argument("trust " + std::to_string(trust) + " is not one of CDNA_CUDA_TRUST_");
  }
}

Result<UploadOptions> options_of(const cdna_cuda_upload_options* caller_options) {
  cdna_cuda_upload_options given{};
  if (caller_options != nullptr) given = CDNA_TRY(take_struct(caller_options, "options"));
  UploadOptions options;
  options.ordinal = given.device;
  options.stream = static_cast<cudaStream_t>(given.stream);
  if (options.stream == cudaStreamPerThread)
    return bad_argument("stream is cudaStreamPerThread, which is another stream in each thread of the upload");
  options.slice = CDNA_TRY(slice_of(given));
  if (given.pinned_bytes != 0) options.pinned_bytes = given.pinned_bytes;
  if (options.pinned_bytes < Ring::kBytesMin || options.pinned_bytes > Ring::kBytesMax) {
    return bad_argument("pinned_bytes is not " + std::to_string(Ring::kBytesMin) + " to " +
                        std::to_string(Ring::kBytesMax));
  }
  options.device_bytes_max = given.device_bytes_max;
  options.threads = given.threads;
  options.trust = CDNA_TRY(trust_of(given.trust));
  if (given.expected_root != nullptr) {
    options.expected_root.emplace();
    std::memcpy(options.expected_root->data(), given.expected_root, options.expected_root->size());
  }
  if (given.progress != nullptr) {
    options.progress = [call = given.progress, context = given.progress_context](
                           std::uint64_t done, std::uint64_t total) { return call(context, done, total) == 0; };
  }
  return options;
}

Result<void> upload_model(const char* path, const char* pattern, const cdna_cuda_upload_options* options,
                          cdna_cuda_model** ret_model) {
  if (path == nullptr || ret_model == nullptr) return bad_argument("path or ret_model is NULL");
  std::optional<std::string> wanted;
  if (pattern != nullptr) wanted = pattern;
  const UploadOptions how = CDNA_TRY(options_of(options));
  auto out = std::make_unique<cdna_cuda_model>();  // Before there is memory of a device that would have to go back.
  out->model = std::move(*CDNA_TRY(upload(path, wanted, how)));
  *ret_model = out.release();
  return {};
}

Result<void> give_info(const cdna_cuda_model* model, std::uint64_t tensor, cdna_cuda_tensor_info* ret_info) {
  if (model == nullptr) return bad_argument("model is NULL");
  if (tensor >= model->model.names.size()) return bad_argument("there is no tensor " + std::to_string(tensor));
  const NamedTensor& named = model->model.names[tensor];
  const TensorOnDevice& found = model->model.tensors[named.tensor];
  cdna_cuda_tensor_info info = found.info;
  info.name = named.name.c_str();
  info.shape = found.shape.data();
  return give_struct(info, ret_info, "ret_info");
}

}  // namespace
}  // namespace cdna::cuda

extern "C" {

cdna_cuda_code cdna_cuda_device_supported(int32_t ordinal, cdna_cuda_error* error) {
  return cdna::cuda::guarded(error, [&]() -> cdna::Result<void> {
    CDNA_TRY(cdna::cuda::usable_device(ordinal));
    return {};
  });
}

cdna_cuda_code cdna_cuda_upload(const char* path, const char* pattern, const cdna_cuda_upload_options* options,
                                cdna_cuda_model** ret_model, cdna_cuda_error* error) {
  return cdna::cuda::guarded(error, [&] { return cdna::cuda::upload_model(path, pattern, options, ret_model); });
}

void cdna_cuda_free(cdna_cuda_model* model) {
  if (model == nullptr) return;
  const cdna::cuda::CurrentDevice current(model->model.ordinal);
  delete model;
}

cdna_cuda_code cdna_cuda_report(const cdna_cuda_model* model, cdna_cuda_upload_report* ret_report,
                                cdna_cuda_error* error) {
  return cdna::cuda::guarded(error, [&]() -> cdna::Result<void> {
    if (model == nullptr) return cdna::cuda::bad_argument("model is NULL");
    return cdna::cuda::give_struct(model->model.report, ret_report, "ret_report");
  });
}

uint64_t cdna_cuda_tensor_count(const cdna_cuda_model* model) {
  return model == nullptr ? 0 : model->model.names.size();
}

cdna_cuda_code cdna_cuda_find(const cdna_cuda_model* model, const char* name, uint64_t* ret_tensor,
                              cdna_cuda_error* error) {
  return cdna::cuda::guarded(error, [&]() -> cdna::Result<void> {
    if (model == nullptr || name == nullptr || ret_tensor == nullptr)
      return cdna::cuda::bad_argument("model, name or ret_tensor is NULL");
    const auto found = model->model.find(name);
    if (found) return *ret_tensor = *found, cdna::Result<void>();
    cdna::Error missing = cdna::fail(cdna::Code::not_found, "", "the model has no tensor of this name");
    missing.item = name;
    return missing;
  });
}

cdna_cuda_code cdna_cuda_info(const cdna_cuda_model* model, uint64_t tensor, cdna_cuda_tensor_info* ret_info,
                              cdna_cuda_error* error) {
  return cdna::cuda::guarded(error, [&] { return cdna::cuda::give_info(model, tensor, ret_info); });
}

}  // extern "C"
