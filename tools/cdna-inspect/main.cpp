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
#include "tools/text.hpp"

namespace cdna::tools {
namespace {

constexpr const char* kProgram = "cdna-inspect";

struct Options {
  std::string file;
  std::vector<std::string> globs;
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
  out["error"] = tensor.exact ? ordered_json(nullptr)
                              : ordered_json{{"snr_db", or_null(tensor.snr_db)}, {"max_abs", or_null(tensor.max_abs)}};
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

void print_table(const ModelSummary& summary) {
  std::size_t name_width = 6;
  std::size_t shape_width = 5;
  for (const TensorSummary& tensor : summary.tensors) {
    name_width = std::max(name_width, escape(tensor.name).size());
    shape_width = std::max(shape_width, format_shape(tensor.shape).size());
  }
  name_width = std::min<std::size_t>(name_width, 60);
  const std::string header =
      fmt::format("{:<{}}  {:<5} {:>{}}  {:<12} {:<8} {:<6} {:>7} {:>9} {:>6}  {}", "tensor", name_width, "dtype",
                  "shape", shape_width, "role", "preset", "codec", "bits/w", "stored", "ratio", "error");
  fmt::print("{}\n", use_bold() ? "\x1b[1m" + header + "\x1b[0m" : header);
  for (const TensorSummary& tensor : summary.tensors) {
    const double ratio = tensor.stored_bytes == 0
                             ? 1
                             : static_cast<double>(tensor.source_bytes) / static_cast<double>(tensor.stored_bytes);
    fmt::print("{:<{}}  {:<5} {:>{}}  {:<12} {:<8} {:<6} {:>7.2f} {:>9} {:>6.2f}  {}\n", escape(tensor.name),
               name_width, tensor.dtype, format_shape(tensor.shape), shape_width, tensor.role,
               tensor.preset ? *tensor.preset : escape(tensor.encoding), tensor.codec, tensor.bits_per_weight,
               format_bytes(tensor.stored_bytes), ratio, error_text(tensor));
  }
}

void print_text(const Options& options, const Reader& reader, const ModelSummary& summary, const Metadata& metadata) {
  fmt::print("{}  CDNA v3, {}, alignment {}, features required {:#x} optional {:#x}\n", escape(options.file),
             format_bytes(reader.file_bytes()), reader.alignment(), reader.required_features(),
             reader.optional_features());
  fmt::print("root {}\n", to_hex(reader.root()));
  fmt::print("read with {} ({}), {}\n\n", reader.source().backend(), reader.source().reason(),
             reader.trust() == Trust::zero_copy ? "zero-copy" : "strict");
  print_table(summary);
  for (const auto& [name, tensor] : summary.aliases)
    fmt::print("{} is another name of {}\n", escape(name), escape(tensor));
  fmt::print("\n{} tensors, {} of source in {}, ratio {:.2f}, {:.2f} bits/weight\n", summary.tensors.size(),
             format_bytes(summary.source_bytes), format_bytes(summary.stored_bytes), summary.ratio(),
             summary.bits_per_weight());
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
  const ModelSummary summary = summarize(*reader, options.globs);
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
}  // namespace cdna::tools

int main(int argc, char** argv) {
  using namespace cdna::tools;
  Options options;
  CLI::App app{
      "Shows what a CDNA file holds: one line a tensor and totals. Checks head, tail, footer and metadata; reads no "
      "tensor data.",
      "cdna-inspect"};
  app.footer(kExitCodeHelp);
  app.set_version_flag("--version", "cdna-inspect " + std::string(cdna::kLibraryVersion) + ", CDNA format version 3");
  app.add_option("FILE", options.file, "A .cdna file")->required();
  app.add_option("GLOB", options.globs, "Shell patterns: only tensors whose names match");
  app.add_flag("--json", options.json, "One JSON document, schema cdna.inspect/1");
  if (const int code = parse_arguments(app, argc, argv); code >= 0) return code;
  return run_guarded(kProgram, [&options] { return run(options); });
}
