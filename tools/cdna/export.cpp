// cdna export: the tensors of a container in another format.
#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cdna/convert.hpp"
#include "cdna/reader.hpp"
#include "tools/cdna/commands.hpp"
#include "tools/exit_code.hpp"
#include "tools/interrupt.hpp"
#include "tools/progress.hpp"
#include "tools/text.hpp"

namespace cdna::tools {
namespace {

constexpr const char* kProgram = "cdna export";
struct Options {
  std::string source;
  std::string destination;
  std::string to;  // "": by the destination's ending.
  std::string dtype = "source";
  std::string architecture;
  bool force = false;
};

std::optional<DType> dtype_called(const std::string& name) {
  if (name == "f32") return DType::f32;
  if (name == "bf16") return DType::bf16;
  return name == "f16" ? std::optional(DType::f16) : std::nullopt;
}

// A source that cannot be exported is told before the destination is looked at.
Result<void> check_source(const Reader& reader) {
  for (std::uint32_t i = 0; i < reader.tensor_count(); ++i) {
    if (auto result = reader.resolve(reader.tensor_item(i)).check_supported(); !result) return result;
  }
  auto metadata = reader.metadata();
  if (!metadata) return std::move(metadata).error();
  return {};
}

// What is asked for, or else what the destination's ending says; none where the two disagree, which is told.
std::optional<ExportFormat> format_of(const Options& options) {
  const std::optional<ExportFormat> ending = export_format_of(options.destination);
  const std::optional<ExportFormat> wanted = options.to.empty() ? ending : parse_export_format(options.to);
  if (!wanted) {
    fmt::print(stderr, "{}: {}: the destination must end in .safetensors, .gguf or .npz, or --to say what it is\n",
               kProgram, escape(options.destination));
    return std::nullopt;
  }
  if (wanted != ending && *wanted != ExportFormat::hxq) {
    fmt::print(stderr, "{}: {}: the destination must end in .{}\n", kProgram, escape(options.destination),
               name_of(*wanted));
    return std::nullopt;
  }
  if (*wanted == ExportFormat::hxq && (ending || has_suffix(options.destination, ".cdna"))) {
    fmt::print(stderr, "{}: {}: hxq is a folder, and this is the name of a file\n", kProgram,
               escape(options.destination));
    return std::nullopt;
  }
  return wanted;
}

int run_export(const Options& options) {
  const std::optional<ExportFormat> format = format_of(options);
  if (!format) return kUsage;
  ExportOptions export_options;
  export_options.dtype = dtype_called(options.dtype);
  export_options.q8_0 = options.dtype == "q8_0";
  export_options.architecture = options.architecture;
  export_options.stop = &stop_on_signals();
  auto reader = Reader::open(options.source);
  if (!reader) return report(kProgram, reader.error());
  if (auto result = check_source(*reader); !result) return report(kProgram, result.error());
  FileSinkOptions sink_options;
  sink_options.force = options.force;
  std::uint64_t bytes = 0;
  std::vector<std::string> notes;
  export_options.notes = &notes;
  {
    Progress progress("exporting");
    export_options.progress = [&](std::uint64_t done, std::uint64_t total) {
      progress.show(done, total);
      bytes = total;
    };
    if (auto result = export_file(*reader, options.destination, *format, sink_options, export_options); !result) {
      progress.clear();
      return report(kProgram, result.error());
    }
  }
  for (const std::string& note : notes) fmt::print(stderr, "{}: note: {}\n", kProgram, escape(note));
  fmt::print("{}: {} tensors, {} of data\n", escape(options.destination), reader->tensor_count(), format_bytes(bytes));
  return kClean;
}

}  // namespace

std::function<int()> add_export(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("SRC", options->source, "A .cdna file")->required();
  app.add_option("DST", options->destination,
                 "The .safetensors, .gguf or .npz file to write, or with --to hxq a directory")
      ->required();
  std::vector<std::string> formats;
  for (const ExportFormat format : export_formats()) formats.emplace_back(name_of(format));
  app.add_option("--to", options->to,
                 "What to write; else what the ending of DST says. hxq: a checkpoint for helix-substrate")
      ->check(CLI::IsMember(formats));
  app.add_option("--dtype", options->dtype,
                 "What F16, BF16, F32 and F64 tensors become; others stay as they are. q8_0: GGUF only")
      ->check(CLI::IsMember({"source", "f32", "bf16", "f16", "q8_0"}))
      ->capture_default_str();
  app.add_option("--architecture", options->architecture,
                 "general.architecture of a GGUF file; else that of the source, or model_type of its config.json");
  app.add_flag("--force", options->force, "Replace an existing destination, by rename");
  return [options] { return run_export(*options); };
}

}  // namespace cdna::tools
