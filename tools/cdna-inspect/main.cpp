// cdna-inspect: what a CDNA file holds, without reading its blocks.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "cdna/version.hpp"
#include "tools/cdna-inspect/model_summary.hpp"
#include "tools/exit_code.hpp"
#include "tools/json.hpp"
#include "tools/programs.hpp"
#include "tools/text.hpp"

namespace cdna::tools {
namespace {

constexpr const char* kProgram = "cdna-inspect";

struct Options {
  std::string file;
  std::vector<std::string> globs;
  bool errors = false;
  bool json = false;
};

template <class T>
ordered_json or_null(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

// Whether JSON text nests deeper, or has more names, than any honest metadata: writing such a document recurses, and
// each name is compared with all of its object.
bool is_too_much(std::string_view json) {
  constexpr int kDepthMax = 64;
  constexpr int kNamesMax = 8192;
  int depth = 0;
  int names = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    if (in_string) {
      if (json[i] == '\\')
        ++i;
      else if (json[i] == '"')
        in_string = false;
    } else if (json[i] == '"') {
      in_string = true;
    } else if (json[i] == ':') {
      if (++names > kNamesMax) return true;
    } else if (json[i] == '[' || json[i] == '{') {
      if (++depth > kDepthMax) return true;
    } else if (json[i] == ']' || json[i] == '}') {
      --depth;
    }
  }
  return false;
}

ordered_json value_json(const MetadataValue& value) {
  if (const auto* boolean = std::get_if<bool>(&value)) return *boolean;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return *integer;
  if (const auto* integer = std::get_if<std::uint64_t>(&value)) return *integer;
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  if (const auto* json = std::get_if<JsonText>(&value)) {
    if (is_too_much(json->text)) return json->text;
    ordered_json parsed = ordered_json::parse(json->text, nullptr, false);
    return parsed.is_discarded() ? ordered_json(json->text) : parsed;
  }
  if (const auto* bytes = std::get_if<std::vector<std::byte>>(&value)) return {{"bytes", bytes->size()}};
  return nullptr;
}

ordered_json tensor_json(const TensorSummary& tensor) {
  ordered_json out{{"name", tensor.name},
                   {"dtype", tensor.dtype},
                   {"shape", tensor.shape},
                   {"role", tensor.role},
                   {"encoding", tensor.encoding}};
  out["preset"] = or_null(tensor.preset);
  out["codec"] = tensor.codec;
  out["bits_per_weight"] = tensor.bits_per_weight;
  out["stored_bytes"] = tensor.stored_bytes;
  out["source_bytes"] = tensor.source_bytes;
  out["rows_per_block"] = tensor.rows_per_block;
  out["blocks"] = tensor.blocks;
  out["error"] = nullptr;
  if (!tensor.exact) {
    out["error"] = {{"snr_db", or_null(tensor.snr_db)},
                    {"max_abs", or_null(tensor.max_abs)},
                    {"relative_frobenius", or_null(tensor.relative_error)}};
  }
  out["outliers"] = or_null(tensor.outliers);
  out["excess_kurtosis"] = or_null(tensor.excess_kurtosis);
  out["code_entropy_bits"] = or_null(tensor.code_entropy_bits);
  if (tensor.statistics_fault) out["statistics_fault"] = *tensor.statistics_fault;
  if (tensor.unsupported) out["unsupported"] = *tensor.unsupported;
  return out;
}

void print_document(const Options& options, const Reader& reader, const ModelSummary& summary,
                    const Metadata& metadata) {
  ordered_json out{{"schema", "cdna.inspect/1"},
                   {"file", options.file},
                   {"file_bytes", reader.file_bytes()},
                   {"root", to_hex(reader.root())}};
  out["alignment"] = reader.alignment();
  out["required_features"] = reader.required_features();
  out["optional_features"] = reader.optional_features();
  out["io"] = {{"backend", reader.source().backend()},
               {"reason", reader.source().reason()},
               {"trust", reader.trust() == Trust::zero_copy ? "zero-copy" : "strict"}};
  out["totals"] = {{"tensors", summary.tensors.size()},
                   {"source_bytes", summary.source_bytes},
                   {"stored_bytes", summary.stored_bytes},
                   {"ratio", summary.ratio()},
                   {"bits_per_weight", summary.bits_per_weight()}};
  const TensorSummary* const worst = summary.worst();
  out["totals"]["worst_snr_db"] = worst == nullptr ? ordered_json(nullptr) : ordered_json(*worst->snr_db);
  out["totals"]["worst_snr_tensor"] = worst == nullptr ? ordered_json(nullptr) : ordered_json(worst->name);
  out["tensors"] = ordered_json::array();
  for (const TensorSummary& tensor : summary.tensors) out["tensors"].push_back(tensor_json(tensor));
  out["aliases"] = ordered_json::array();
  for (const auto& [name, tensor] : summary.aliases) out["aliases"].push_back({{"name", name}, {"tensor", tensor}});
  out["assets"] = ordered_json::array();
  for (const Item& asset : summary.assets) {
    out["assets"].push_back({{"name", asset.name()},
                             {"media_type", asset.type()},
                             {"bytes", asset.cols()},
                             {"stored_bytes", asset.stored_bytes()}});
  }
  // Keys are unique already. To look each up, as [] does, would take the square of their number.
  ordered_json::object_t values;
  values.reserve(metadata.size());
  for (const auto& [key, value] : metadata) values.emplace_back(key, value_json(value));
  out["metadata"] = std::move(values);
  tools::print_json(out);
}

bool use_bold() {
  const char* const no_color = std::getenv("NO_COLOR");
  return is_capable_terminal(STDOUT_FILENO) && (no_color == nullptr || *no_color == '\0');
}

std::string error_text(const TensorSummary& tensor) {
  if (tensor.unsupported) return "unsupported";
  if (tensor.exact) return "exact";
  return tensor.snr_db ? fmt::format("{:.1f} dB", *tensor.snr_db) : "-";
}

std::string preset_text(const TensorSummary& tensor) {
  return tensor.preset ? *tensor.preset : escape(tensor.encoding);
}

struct Widths {
  std::size_t name = 6;
  std::size_t shape = 5;
  std::size_t preset = 8;
};

Widths widths_of(const ModelSummary& summary) {
  Widths widths;
  for (const TensorSummary& tensor : summary.tensors) {
    widths.name = std::max(widths.name, escape(tensor.name).size());
    widths.shape = std::max(widths.shape, format_shape(tensor.shape).size());
    widths.preset = std::max(widths.preset, preset_text(tensor).size());
  }
  constexpr std::size_t kWidthMax = 60;
  widths.name = std::min(widths.name, kWidthMax);
  widths.preset = std::min(widths.preset, kWidthMax);
  return widths;
}

void print_header(const std::string& header) {
  fmt::print("{}\n", use_bold() ? "\x1b[1m" + header + "\x1b[0m" : header);
}

std::string number_text(const std::optional<double>& value, const char* format) {
  return value ? fmt::format(fmt::runtime(format), *value) : "-";
}

// What is recorded about the error of each tensor, and about its values and codes.
void print_errors(const ModelSummary& summary) {
  const Widths widths = widths_of(summary);
  print_header(fmt::format("{:<{}}  {:<{}} {:>7} {:>8} {:>10} {:>10} {:>12} {:>9} {:>8}", "tensor", widths.name,
                           "preset", widths.preset, "bits/w", "SNR dB", "rel. error", "max error", "outliers",
                           "kurtosis", "entropy"));
  for (const TensorSummary& tensor : summary.tensors) {
    const std::string snr = tensor.exact                   ? "exact"
                            : tensor.relative_error == 0.0 ? "inf"
                                                           : number_text(tensor.snr_db, "{:.2f}");
    fmt::print("{:<{}}  {:<{}} {:>7.2f} {:>8} {:>10} {:>10} {:>12} {:>9} {:>8}\n", escape(tensor.name), widths.name,
               preset_text(tensor), widths.preset, tensor.bits_per_weight, snr,
               number_text(tensor.relative_error, "{:.3e}"), number_text(tensor.max_abs, "{:.3e}"),
               tensor.outliers ? fmt::format("{}", *tensor.outliers) : "-",
               number_text(tensor.excess_kurtosis, "{:.2f}"), number_text(tensor.code_entropy_bits, "{:.3f}"));
  }
  for (const TensorSummary& tensor : summary.tensors) {
    if (tensor.statistics_fault) fmt::print("{}\n", *tensor.statistics_fault);
  }
}

void print_table(const ModelSummary& summary) {
  const auto [name_width, shape_width, preset_width] = widths_of(summary);
  const std::string header =
      fmt::format("{:<{}}  {:<5} {:>{}}  {:<12} {:<{}} {:<6} {:>7} {:>9} {:>6}  {}", "tensor", name_width, "dtype",
                  "shape", shape_width, "role", "preset", preset_width, "codec", "bits/w", "stored", "ratio", "error");
  print_header(header);
  for (const TensorSummary& tensor : summary.tensors) {
    const double ratio = tensor.stored_bytes == 0
                             ? 1
                             : static_cast<double>(tensor.source_bytes) / static_cast<double>(tensor.stored_bytes);
    fmt::print("{:<{}}  {:<5} {:>{}}  {:<12} {:<{}} {:<6} {:>7.2f} {:>9} {:>6.2f}  {}\n", escape(tensor.name),
               name_width, tensor.dtype, format_shape(tensor.shape), shape_width, tensor.role, preset_text(tensor),
               preset_width, tensor.codec, tensor.bits_per_weight, format_bytes(tensor.stored_bytes), ratio,
               error_text(tensor));
  }
}

void print_text(const Options& options, const Reader& reader, const ModelSummary& summary, const Metadata& metadata) {
  fmt::print("{}  CDNA v3, {}, alignment {}, features required {:#x} optional {:#x}\n", escape(options.file),
             format_bytes(reader.file_bytes()), reader.alignment(), reader.required_features(),
             reader.optional_features());
  fmt::print("root {}\n", to_hex(reader.root()));
  fmt::print("read with {} ({}), {}\n\n", reader.source().backend(), reader.source().reason(),
             reader.trust() == Trust::zero_copy ? "zero-copy" : "strict");
  if (options.errors) {
    print_errors(summary);
  } else {
    print_table(summary);
  }
  for (const auto& [name, tensor] : summary.aliases)
    fmt::print("{} is another name of {}\n", escape(name), escape(tensor));
  const TensorSummary* const worst = summary.worst();
  fmt::print("\n{} tensors, {} of source in {}, ratio {:.2f}, {:.2f} bits/weight{}\n", summary.tensors.size(),
             format_bytes(summary.source_bytes), format_bytes(summary.stored_bytes), summary.ratio(),
             summary.bits_per_weight(), worst == nullptr ? "" : fmt::format(", worst SNR {:.1f} dB", *worst->snr_db));
  for (const Item& asset : summary.assets)
    fmt::print("asset {}  {}, {}\n", escape(asset.name()), escape(asset.type()), format_bytes(asset.cols()));
  for (const auto& [key, value] : metadata)
    fmt::print("metadata {} = {}\n", escape(key), escape(value_json(value).dump()));
  if (summary.ignored_items > 0) fmt::print("{} items of kinds that this version ignores\n", summary.ignored_items);
}

int run(const Options& options) {
  auto reader = Reader::open(options.file);
  if (!reader) return report(kProgram, reader.error());
  const auto metadata = reader->metadata();
  if (!metadata) return report(kProgram, metadata.error());
  const Detail detail = options.errors || options.json ? Detail::statistics : Detail::footer;
  const ModelSummary summary = summarize(*reader, options.globs, detail);
  if (!options.globs.empty() && summary.tensors.empty() && summary.aliases.empty()) {
    fmt::print(stderr, "{}: {}: no tensor has such a name\n", kProgram, escape(options.file));
    return kUsage;
  }
  if (options.json) {
    print_document(options, *reader, summary, *metadata);
  } else {
    print_text(options, *reader, summary, *metadata);
  }
  return kClean;
}

}  // namespace

int inspect_main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Shows what a CDNA file holds: one line a tensor and totals. Checks head, tail, footer and metadata; reads no "
      "tensor data (with --errors or --json: the block index and the statistics, and tells where they are damaged).",
      "cdna-inspect"};
  app.footer(kExitCodeHelp);
  app.set_version_flag("--version", "cdna-inspect " + std::string(kLibraryVersion) + ", CDNA format version 3");
  app.add_option("FILE", options.file, "A .cdna file")->required();
  app.add_option("GLOB", options.globs, "Shell patterns: only tensors whose names match");
  app.add_flag(
      "--errors", options.errors,
      "The table of errors: SNR, relative Frobenius error, largest absolute error (a bound), outliers, excess\n"
      "kurtosis of the values, entropy of the codes in bits");
  app.add_flag("--json", options.json, "One JSON document, schema cdna.inspect/1");
  if (const int code = parse_arguments(app, argc, argv); code >= 0) return code;
  return run_guarded(kProgram, [&options] { return run(options); });
}

}  // namespace cdna::tools
