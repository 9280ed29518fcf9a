// cdna export: the tensors of a container as one safetensors file.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <vector>

#include "cdna/import.hpp"
#include "cdna/reader.hpp"
#include "tools/cdna/commands.hpp"
#include "tools/exit_code.hpp"
#include "tools/interrupt.hpp"
#include "tools/progress.hpp"
#include "tools/tensor_stream.hpp"
#include "tools/text.hpp"

namespace cdna::tools {
namespace {

constexpr const char* kProgram = "cdna export";
constexpr std::uint64_t kStepBytes = std::uint64_t{4} << 20;
constexpr std::string_view kMetadataPrefix = "safetensors:";

struct Options {
  std::string source;
  std::string destination;
  std::string dtype = "source";
  bool force = false;
};

// What a tensor becomes: floats what was asked for, all others themselves.
DType target_of(const Options& options, DType source) {
  if (options.dtype == "source" || !is_float(source)) return source;
  if (options.dtype == "f32") return DType::f32;
  return options.dtype == "bf16" ? DType::bf16 : DType::f16;
}

std::vector<ModelTensor> tensors_of(const Reader& reader, const Options& options) {
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

Result<std::map<std::string, std::string>> metadata_of(const Reader& reader) {
  auto metadata = reader.metadata();
  if (!metadata) return std::move(metadata).error();
  std::map<std::string, std::string> out;
  for (const auto& [key, value] : *metadata) {
    const auto* const text = std::get_if<std::string>(&value);
    if (text != nullptr && key.compare(0, kMetadataPrefix.size(), kMetadataPrefix) == 0)
      out[key.substr(kMetadataPrefix.size())] = *text;
  }
  return out;
}

class Export {
 public:
  Export(const Reader& reader, SafetensorsWriter& writer, const std::atomic<bool>& stop)
      : reader_(reader), writer_(writer), stop_(stop), progress_("exporting") {
    for (const ModelTensor& tensor : writer.tensors()) all_bytes_ += tensor.size_bytes;
  }

  Result<void> run() {
    for (const ModelTensor& planned : writer_.tensors()) {
      const Tensor tensor = *reader_.find(planned.name);
      const bool as_stored = tensor.encoding() == "cdna.exact" && planned.dtype == tensor.dtype();
      auto result = as_stored ? copy_blocks(tensor) : decode_rows(tensor, planned.dtype);
      if (!result) return result;
    }
    return writer_.commit();
  }

 private:
  // The blocks of an exact tensor are its bytes, in order.
  Result<void> copy_blocks(const Tensor& tensor) {
    auto blocks = tensor.blocks();
    if (!blocks) return std::move(blocks).error();
    for (const Result<Block>& block : *blocks) {
      if (!block) return block.error();
      if (auto result = append(block->data); !result) return result;
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
      buffer.resize((end - row) * tensor.row_bytes(target));
      if (auto result = tensor.read_rows(row, end, target, buffer); !result) return result;
      if (auto result = append(buffer); !result) return result;
    }
    return {};
  }

  Result<void> append(std::span<const std::byte> bytes) {
    if (stop_.load()) return stopped();
    done_bytes_ += bytes.size();
    progress_.show(done_bytes_, all_bytes_);
    return writer_.append(bytes);
  }

  const Reader& reader_;
  SafetensorsWriter& writer_;
  const std::atomic<bool>& stop_;
  Progress progress_;
  std::uint64_t done_bytes_ = 0;
  std::uint64_t all_bytes_ = 0;
};

int run_export(const Options& options) {
  if (!has_suffix(options.destination, ".safetensors")) {
    fmt::print(stderr, "{}: {}: the destination must end in .safetensors\n", kProgram, escape(options.destination));
    return kUsage;
  }
  const std::atomic<bool>& stop = stop_on_signals();
  auto reader = Reader::open(options.source);
  if (!reader) return report(kProgram, reader.error());
  for (std::uint32_t i = 0; i < reader->tensor_count(); ++i) {
    if (auto result = reader->resolve(reader->tensor_item(i)).check_supported(); !result)
      return report(kProgram, result.error());
  }
  auto metadata = metadata_of(*reader);
  if (!metadata) return report(kProgram, metadata.error());
  FileSinkOptions sink_options;
  sink_options.force = options.force;
  auto sink = create_file(options.destination, sink_options);
  if (!sink) return report(kProgram, sink.error());
  auto writer = SafetensorsWriter::create(*std::move(sink), tensors_of(*reader, options), *metadata);
  if (!writer) return report(kProgram, writer.error());
  if (auto result = Export(*reader, **writer, stop).run(); !result) return report(kProgram, result.error());
  std::uint64_t bytes = 0;
  for (const ModelTensor& tensor : (*writer)->tensors()) bytes += tensor.size_bytes;
  fmt::print("{}: {} tensors, {} of data\n", escape(options.destination), (*writer)->tensors().size(),
             format_bytes(bytes));
  return kClean;
}

}  // namespace

std::function<int()> add_export(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("SRC", options->source, "A .cdna file")->required();
  app.add_option("DST", options->destination, "The .safetensors file to write")->required();
  app.add_option("--dtype", options->dtype, "What F16, BF16, F32 and F64 tensors become; others stay as they are")
      ->check(CLI::IsMember({"source", "f32", "bf16", "f16"}))
      ->capture_default_str();
  app.add_flag("--force", options->force, "Replace an existing destination, by rename");
  return [options] { return run_export(*options); };
}

}  // namespace cdna::tools
