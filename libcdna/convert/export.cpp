// The tensors of a container as one safetensors file.
#include <cassert>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "cdna/convert.hpp"
#include "libcdna/convert/export_options.hpp"
#include "libcdna/convert/progress.hpp"
#include "libcdna/convert/tensor_bytes.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::string_view kMetadataPrefix = "safetensors:";

std::vector<ModelTensor> tensors_of(const Reader& reader, const ExportOptions& options) {
  std::vector<ModelTensor> tensors;
  for (std::uint32_t i = 0; i < reader.tensor_count(); ++i) {
    const Item named = reader.tensor_item(i);
    const Tensor tensor = reader.resolve(named);
    ModelTensor out;
    out.name = named.name();
    out.dtype = exported_dtype(options, tensor.dtype());
    out.shape.assign(tensor.shape().begin(), tensor.shape().end());
    out.size_bytes = (tensor.element_count() * bits_of(out.dtype) + 7) / 8;
    tensors.push_back(std::move(out));
  }
  return tensors;
}

Result<std::map<std::string, std::string>> strings_of(const Reader& reader) {
  const Metadata metadata = CDNA_TRY(reader.metadata());
  std::map<std::string, std::string> out;
  for (const auto& [key, value] : metadata) {
    const auto* const text = std::get_if<std::string>(&value);
    if (text != nullptr && key.compare(0, kMetadataPrefix.size(), kMetadataPrefix) == 0)
      out[key.substr(kMetadataPrefix.size())] = *text;
  }
  return out;
}

std::uint64_t bytes_of(const SafetensorsWriter& writer) {
  std::uint64_t bytes = 0;
  for (const ModelTensor& tensor : writer.tensors()) bytes += tensor.size_bytes;
  return bytes;
}

class Export {
 public:
  Export(const Reader& reader, SafetensorsWriter& writer, const ExportOptions& options)
      : reader_(reader), writer_(writer), stop_(options.stop), progress_(options.progress, bytes_of(writer)) {}

  Result<void> run() {
    for (const ModelTensor& planned : writer_.tensors()) {
      const Tensor tensor = *reader_.find(planned.name);
      CDNA_TRY(
          write_tensor_bytes(tensor, planned.dtype, [&](std::span<const std::byte> bytes) { return append(bytes); }));
    }
    CDNA_TRY(check_stop());  // Also what the last report of progress was answered with.
    CDNA_TRY(writer_.commit());
    progress_.finish();
    return {};
  }

 private:
  Result<void> check_stop() const {
    CDNA_CHECK(stop_ == nullptr || !stop_->load(), Code::cancelled, "", "stopped on request");
    return {};
  }

  Result<void> append(std::span<const std::byte> bytes) {
    CDNA_TRY(check_stop());
    done_bytes_ += bytes.size();
    progress_.show(done_bytes_);
    return writer_.append(bytes);
  }

  const Reader& reader_;
  SafetensorsWriter& writer_;
  const std::atomic<bool>* stop_;
  Progress progress_;
  std::uint64_t done_bytes_ = 0;
};

Result<void> export_all(const Reader& reader, std::unique_ptr<Sink> sink, const ExportOptions& options) {
  CDNA_TRY(check_export_options(options));
  CDNA_TRY(check_all_supported(reader));
  const std::map<std::string, std::string> metadata = CDNA_TRY(strings_of(reader));
  const std::unique_ptr<SafetensorsWriter> writer =
      CDNA_TRY(SafetensorsWriter::create(std::move(sink), tensors_of(reader, options), metadata));
  return Export(reader, *writer, options).run();
}

}  // namespace

Result<void> export_safetensors(const Reader& reader, std::unique_ptr<Sink> sink, const ExportOptions& options) {
  assert(sink != nullptr);
  return no_throw([&] { return export_all(reader, std::move(sink), options); });
}

}  // namespace cdna
