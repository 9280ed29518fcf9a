// The tensors of a container as one safetensors file.
#include <algorithm>
#include <cassert>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "cdna/convert.hpp"
#include "libcdna/convert/number_text.hpp"
#include "libcdna/convert/progress.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kStepBytes = std::uint64_t{4} << 20;
constexpr std::uint64_t kRowBytesMax = std::uint64_t{256} << 20;  // A few bytes can claim a row of any length.
constexpr std::string_view kMetadataPrefix = "safetensors:";

// What a tensor becomes: floats what was asked for, all others themselves.
DType target_of(const ExportOptions& options, DType source) {
  return is_float(source) ? options.dtype.value_or(source) : source;
}

Result<void> check_supported(const Reader& reader) {
  for (std::uint32_t i = 0; i < reader.tensor_count(); ++i)
    CDNA_TRY(reader.resolve(reader.tensor_item(i)).check_supported());
  return {};
}

std::vector<ModelTensor> tensors_of(const Reader& reader, const ExportOptions& options) {
  std::vector<ModelTensor> tensors;
  for (std::uint32_t i = 0; i < reader.tensor_count(); ++i) {
    const Item named = reader.tensor_item(i);
    const Tensor tensor = reader.resolve(named);
    ModelTensor out;
    out.name = named.name();
    out.dtype = target_of(options, tensor.dtype());
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

Error too_wide(const Tensor& tensor, std::uint64_t row_bytes) {
  Error error = fail(
      Code::limit, "",
      "a row has " + bytes_text(row_bytes) + ", over the " + bytes_text(kRowBytesMax) + " that are decoded at once");
  error.item = tensor.name();
  return error;
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
      const bool as_stored = tensor.encoding() == "cdna.exact" && planned.dtype == tensor.dtype();
      CDNA_TRY(as_stored ? copy_blocks(tensor) : decode_rows(tensor, planned.dtype));
    }
    CDNA_TRY(check_stop());  // Also what the last report of progress was answered with.
    CDNA_TRY(writer_.commit());
    progress_.finish();
    return {};
  }

 private:
  // The blocks of an exact tensor are its bytes, in order.
  Result<void> copy_blocks(const Tensor& tensor) {
    BlockRange blocks = CDNA_TRY(tensor.blocks());
    for (const Result<Block>& block : blocks) {
      if (!block) return block.error();
      CDNA_TRY(append(block->data));
    }
    return {};
  }

  Result<void> decode_rows(const Tensor& tensor, DType target) {
    if (tensor.element_count() == 0) return {};
    const std::uint64_t row_bytes = tensor.row_bytes(target);
    if (row_bytes > kRowBytesMax) return too_wide(tensor, row_bytes);
    const std::uint64_t step = std::max<std::uint64_t>(1, kStepBytes / row_bytes);
    std::vector<std::byte> buffer;
    for (std::uint64_t row = 0; row < tensor.rows(); row += step) {
      const std::uint64_t end = std::min(tensor.rows(), row + step);
      buffer.resize((end - row) * row_bytes);
      CDNA_TRY(tensor.read_rows(row, end, target, buffer));
      CDNA_TRY(append(buffer));
    }
    return {};
  }

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
  CDNA_CHECK(!options.dtype || is_float(*options.dtype), Code::bad_argument, "",
             "dtype: one of F16, BF16, F32 and F64");
  CDNA_CHECK(!options.q8_0, Code::bad_argument, "", "q8_0: only GGUF has such blocks");
  CDNA_CHECK(options.architecture.empty(), Code::bad_argument, "", "architecture: only GGUF names one");
  CDNA_TRY(check_supported(reader));
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
