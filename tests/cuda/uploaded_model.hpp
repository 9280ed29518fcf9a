// Files, uploads through the C interface, and what a model must be: the file's tensors, bit for bit.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bindings/c/cdna_cuda.h"
#include "cdna/reader.hpp"
#include "device_array.hpp"
#include "tests/sample_file.hpp"
#include "tests/temporary_folder.hpp"

namespace cdna::test {

struct FreeModel {
  void operator()(cdna_cuda_model* model) const { cdna_cuda_free(model); }
};
using ModelHandle = std::unique_ptr<cdna_cuda_model, FreeModel>;

// A file that is there as long as this.
class SavedFile {
 public:
  explicit SavedFile(std::vector<std::byte> bytes) : path_(folder_ / "model.cdna"), bytes_(std::move(bytes)) {
    save_file(path_, bytes_);
  }
  const std::string& path() const { return path_; }
  const std::vector<std::byte>& bytes() const { return bytes_; }
  Reader reader() const { return must(Reader::open(path_)); }

 private:
  TemporaryFolder folder_;
  std::string path_;
  std::vector<std::byte> bytes_;
};

inline cdna_cuda_upload_options upload_options(std::uint64_t pinned_bytes = 0, std::uint32_t threads = 2) {
  cdna_cuda_upload_options options = CDNA_CUDA_UPLOAD_OPTIONS_INIT;
  options.pinned_bytes = pinned_bytes;
  options.threads = threads;
  return options;
}

// Throws std::runtime_error with the message where the upload fails.
inline ModelHandle uploaded(const SavedFile& file, const cdna_cuda_upload_options& options = upload_options(),
                            const char* pattern = nullptr) {
  cdna_cuda_model* model = nullptr;
  cdna_cuda_error error{};
  if (cdna_cuda_upload(file.path().c_str(), pattern, &options, &model, &error) != CDNA_CUDA_OK)
    throw std::runtime_error(std::string(error.tensor) + ": " + error.message);
  return ModelHandle(model);
}

// The error of an upload that must not succeed.
inline cdna_cuda_error refused(const SavedFile& file, const cdna_cuda_upload_options& options = upload_options(),
                               const char* pattern = nullptr) {
  auto* const poison = reinterpret_cast<cdna_cuda_model*>(0x10);
  cdna_cuda_model* model = poison;
  cdna_cuda_error error{};
  const cdna_cuda_code code = cdna_cuda_upload(file.path().c_str(), pattern, &options, &model, &error);
  if (code == CDNA_CUDA_OK) {
    cdna_cuda_free(model);
    throw std::runtime_error("the upload succeeded");
  }
  if (model != poison) throw std::runtime_error("an output was written without success");
  if (code != error.code) throw std::runtime_error("the error has another code");
  return error;
}

// The error of an upload to a device that cannot be used, which is what asking for the device says.
inline cdna_cuda_error error_of_device(const SavedFile& file, std::int32_t ordinal) {
  cdna_cuda_upload_options options = upload_options();
  options.device = ordinal;
  const cdna_cuda_error error = refused(file, options);
  cdna_cuda_error asked{};
  if (cdna_cuda_device_supported(ordinal, &asked) != error.code || std::string(asked.message) != error.message)
    throw std::runtime_error("asking for the device says something else");
  return error;
}

inline cdna_cuda_tensor_info info_of(const ModelHandle& model, std::uint64_t tensor) {
  cdna_cuda_tensor_info info{};
  info.struct_size = sizeof info;
  cdna_cuda_error error{};
  if (cdna_cuda_info(model.get(), tensor, &info, &error) != CDNA_CUDA_OK) throw std::runtime_error(error.message);
  return info;
}

inline std::uint64_t number_of(const ModelHandle& model, const std::string& name) {
  std::uint64_t number = 0;
  if (cdna_cuda_find(model.get(), name.c_str(), &number, nullptr) != CDNA_CUDA_OK)
    throw std::runtime_error("no tensor '" + name + "'");
  return number;
}

// A codebook tensor's rows, as the device decodes them.
inline std::vector<std::byte> decoded_rows(const ModelHandle& model, std::uint64_t tensor) {
  const cdna_cuda_tensor_info info = info_of(model, tensor);
  DeviceArray<std::byte> out(info.rows * info.cols * sizeof(float));
  cdna_cuda_error error{};
  if (cdna_cuda_dequantize(model.get(), tensor, 0, info.rows, out.get(), CDNA_CUDA_F32,
                           static_cast<std::int64_t>(info.cols), nullptr, &error) != CDNA_CUDA_OK)
    throw std::runtime_error(error.message);
  must_succeed(cudaStreamSynchronize(nullptr));
  return out.values();
}

// "" if the tensor on the device is that of the file, else what is not.
inline std::string difference(const Reader& reader, const ModelHandle& model, std::uint64_t number) {
  const cdna_cuda_tensor_info info = info_of(model, number);
  const std::optional<Tensor> tensor = reader.find(info.name);
  if (!tensor) return std::string(info.name) + ": not in the file";
  const std::string name = std::string(info.name) + ": ";
  if (info.cols != tensor->cols()) return name + "columns";
  if (std::vector<std::uint64_t>(info.shape, info.shape + info.rank) !=
      std::vector<std::uint64_t>(tensor->shape().begin(), tensor->shape().end()))
    return name + "shape";
  const bool exact = info.encoding == CDNA_CUDA_EXACT;
  const DType dtype = exact ? tensor->dtype() : DType::f32;
  std::vector<std::byte> expected(info.rows * tensor->row_bytes(dtype));
  if (auto result = tensor->read_rows(info.row_begin, info.row_begin + info.rows, dtype, expected); !result)
    return name + result.error().describe();
  const std::vector<std::byte> found =
      exact ? DeviceArray<std::byte>::copy_of(info.device_data, expected.size()) : decoded_rows(model, number);
  return found == expected ? "" : name + "values";
}

inline std::string differences(const SavedFile& file, const ModelHandle& model) {
  const Reader reader = file.reader();
  std::string all;
  for (std::uint64_t i = 0; i < cdna_cuda_tensor_count(model.get()); ++i) {
    const std::string one = difference(reader, model, i);
    if (!one.empty()) all += one + "\n";
  }
  return all;
}

}  // namespace cdna::test
