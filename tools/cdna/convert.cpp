// cdna convert: a model, tensor by tensor in name order, into a container.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "cdna/import.hpp"
#include "cdna/policy.hpp"
#include "cdna/writer.hpp"
#include "tools/cdna/commands.hpp"
#include "tools/cdna/tied_tensors.hpp"
#include "tools/exit_code.hpp"
#include "tools/interrupt.hpp"
#include "tools/json.hpp"
#include "tools/progress.hpp"
#include "tools/text.hpp"

namespace cdna::tools {
namespace {

constexpr const char* kProgram = "cdna convert";

struct Options {
  std::string source;
  std::string destination;
  std::string encoding = "exact";
  std::string codec = "raw";
  std::vector<std::string> keep_exact;
  unsigned threads = 0;
  bool explain = false;
  bool force = false;
  bool json = false;
};

// What will be done with each tensor, and what was.
struct Plan {
  std::vector<Decision> decisions;
  std::vector<std::optional<std::size_t>> alias_of;
  std::vector<std::uint32_t> items;  // Item number in the container, per tensor.
};

std::optional<Error> usage_fault(const Options& options, const Model& model) {
  for (const std::string& glob : options.keep_exact) {
    const auto tensors = model.tensors();
    if (std::any_of(tensors.begin(), tensors.end(),
                    [&](const ModelTensor& tensor) { return matches_glob(glob, tensor.name); }))
      continue;
    Error error;
    error.code = Code::bad_argument;
    error.message = "--keep-exact '" + glob + "' matches no tensor";
    return error;
  }
  return std::nullopt;
}

Result<Plan> make_plan(const Options& options, const Model& model, const std::atomic<bool>& stop) {
  auto wanted = parse_preset(options.encoding);
  if (!wanted) return std::move(wanted).error();
  Plan plan;
  std::vector<Role> roles;
  for (const ModelTensor& tensor : model.tensors()) {
    Decision decision = decide(*wanted, tensor.name, tensor.dtype, tensor.shape);
    for (const std::string& glob : options.keep_exact) {
      if (!matches_glob(glob, tensor.name)) continue;
      decision.preset = {};
      decision.reason = "--keep-exact " + glob;
    }
    roles.push_back(decision.role);
    plan.decisions.push_back(std::move(decision));
  }
  auto alias_of = find_tied_tensors(model, roles, stop);
  if (!alias_of) return std::move(alias_of).error();
  plan.alias_of = *std::move(alias_of);
  return plan;
}

void print_explanation(const Model& model, const Plan& plan) {
  fmt::print("Roles, by the tensor's own name; the first row that fits decides:\n");
  for (const RoleRule& rule : role_rules()) fmt::print("  {:<12} {}\n", rule.name, rule.patterns);
  fmt::print("\nDecisions:\n  {:<6} {:<12} {:<32} {}\n", "preset", "role", "reason", "tensor");
  for (std::size_t i = 0; i < plan.decisions.size(); ++i) {
    const Decision& decision = plan.decisions[i];
    const bool alias = plan.alias_of[i].has_value();
    const std::string reason =
        alias ? "the same bytes as " + escape(model.tensors()[*plan.alias_of[i]].name) : decision.reason;
    fmt::print("  {:<6} {:<12} {:<32} {}\n", alias ? "alias" : name_of(decision.preset), name_of(decision.role), reason,
               escape(model.tensors()[i].name));
  }
  for (const std::string& note : model.notes()) fmt::print("  not stored: {}\n", note);
  fmt::print("\n");
}

Metadata metadata_of(const Options& options, const Model& model) {
  Metadata metadata;
  for (const auto& [key, value] : model.metadata()) metadata[key] = value;
  ordered_json recorded{{"encoding", options.encoding}, {"codec", options.codec}, {"keep_exact", options.keep_exact}};
  metadata["cdna.options"] = JsonText{recorded.dump(-1, ' ', false, ordered_json::error_handler_t::replace)};
  return metadata;
}

// Writes all tensors and assets and finishes the file.
class Conversion {
 public:
  Conversion(const Options& options, const Model& model, Plan& plan, Writer writer)
      : options_(options),
        model_(model),
        plan_(plan),
        writer_(std::move(writer)),
        codec_(*codec_of(options.codec)),
        progress_("converting") {
    for (std::size_t i = 0; i < plan.decisions.size(); ++i) all_bytes_ += model.tensors()[i].size_bytes * passes(i);
  }

  // Ends with the progress line removed.
  Result<Digest> run() {
    auto result = write_all();
    progress_.clear();
    return result;
  }

  const Writer& writer() const { return writer_; }

 private:
  // How often the writer reads a tensor.
  std::uint64_t passes(std::size_t i) const {
    return plan_.alias_of[i] ? 0 : plan_.decisions[i].preset.method == Preset::Method::codebook ? 2 : 1;
  }

  Result<Digest> write_all() {
    for (std::size_t i = 0; i < plan_.decisions.size(); ++i) {
      auto item = add_tensor(i);
      if (!item) return std::move(item).error();
      plan_.items.push_back(*item);
    }
    for (std::size_t i = 0; i < model_.assets().size(); ++i) {
      const ModelAsset& asset = model_.assets()[i];
      const auto read = [this, i](std::uint64_t offset, std::span<std::byte> out) {
        return model_.read_asset(i, offset, out);
      };
      if (auto item = writer_.add_asset(asset.name, asset.media_type, asset.size_bytes, codec_, read); !item)
        return std::move(item).error();
    }
    return writer_.finish(metadata_of(options_, model_));
  }

  // From several threads; the progress line is the first one's.
  Result<void> read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) {
    const std::uint64_t done = done_bytes_.fetch_add(out.size()) + out.size();
    if (std::this_thread::get_id() == thread_) progress_.show(done, all_bytes_);
    return model_.read(tensor, offset, out);
  }

  Result<std::uint32_t> add_tensor(std::size_t i) {
    const ModelTensor& tensor = model_.tensors()[i];
    if (plan_.alias_of[i]) return writer_.add_alias(tensor.name, plan_.items[*plan_.alias_of[i]]);
    const Preset& preset = plan_.decisions[i].preset;
    TensorSpec spec{tensor.name, tensor.dtype, tensor.shape, plan_.decisions[i].role, codec_, Filter::none};
    const auto read = [this, i](std::uint64_t offset, std::span<std::byte> out) { return this->read(i, offset, out); };
    if (preset.method == Preset::Method::codebook) return writer_.add_codebook(spec, preset.codebook, read);
    if (preset.method == Preset::Method::exact_z) {
      spec.codec = Codec::zstd;
      spec.filter = Filter::byte_planes;
    }
    return writer_.add_exact(spec, read);
  }

  const Options& options_;
  const Model& model_;
  Plan& plan_;
  Writer writer_;
  Codec codec_;
  Progress progress_;
  std::thread::id thread_ = std::this_thread::get_id();
  std::atomic<std::uint64_t> done_bytes_{0};
  std::uint64_t all_bytes_ = 0;
};

struct Totals {
  std::uint64_t source_bytes = 0;
  std::uint64_t stored_bytes = 0;
  double elements = 0;
};

Totals totals_of(const Model& model, const Plan& plan, const Writer& writer) {
  Totals totals;
  for (std::size_t i = 0; i < plan.items.size(); ++i) {
    if (plan.alias_of[i]) continue;
    const ModelTensor& tensor = model.tensors()[i];
    totals.source_bytes += tensor.size_bytes;
    totals.stored_bytes += writer.written(plan.items[i]).stored_bytes;
    totals.elements += static_cast<double>(tensor.size_bytes) * 8 / bits_of(tensor.dtype);
  }
  return totals;
}

void print_document(const Options& options, const Model& model, const Plan& plan, const Conversion& conversion,
                    const Digest& root) {
  const Totals totals = totals_of(model, plan, conversion.writer());
  ordered_json out{{"schema", "cdna.convert/1"}, {"destination", options.destination}, {"root", to_hex(root)}};
  out["totals"] = {
      {"tensors", plan.items.size()}, {"source_bytes", totals.source_bytes}, {"stored_bytes", totals.stored_bytes}};
  out["tensors"] = ordered_json::array();
  for (std::size_t i = 0; i < plan.items.size(); ++i) {
    ordered_json tensor{{"name", model.tensors()[i].name}, {"role", name_of(plan.decisions[i].role)}};
    tensor["preset"] = plan.alias_of[i] ? ordered_json(nullptr) : ordered_json(name_of(plan.decisions[i].preset));
    tensor["alias_of"] =
        plan.alias_of[i] ? ordered_json(model.tensors()[*plan.alias_of[i]].name) : ordered_json(nullptr);
    tensor["reason"] = plan.decisions[i].reason;
    tensor["stored_bytes"] = conversion.writer().written(plan.items[i]).stored_bytes;
    out["tensors"].push_back(std::move(tensor));
  }
  out["notes"] = ordered_json::array();
  for (const std::string& note : model.notes()) out["notes"].push_back(note);
  tools::print_json(out);
}

void print_summary(const Options& options, const Model& model, const Plan& plan, const Conversion& conversion,
                   const Digest& root) {
  const Totals totals = totals_of(model, plan, conversion.writer());
  const double ratio = totals.stored_bytes == 0
                           ? 1
                           : static_cast<double>(totals.source_bytes) / static_cast<double>(totals.stored_bytes);
  const double bits = totals.elements == 0 ? 0 : static_cast<double>(totals.stored_bytes) * 8 / totals.elements;
  fmt::print("{}: {} tensors, {} -> {}, ratio {:.2f}, {:.2f} bits/weight\nroot {}\n", escape(options.destination),
             plan.items.size(), format_bytes(totals.source_bytes), format_bytes(totals.stored_bytes), ratio, bits,
             to_hex(root));
}

int run_convert(const Options& options) {
  if (!has_suffix(options.destination, ".cdna")) {
    fmt::print(stderr, "{}: {}: the destination must end in .cdna\n", kProgram, escape(options.destination));
    return kUsage;
  }
  const std::atomic<bool>& stop = stop_on_signals();
  auto model = open_model(options.source);
  if (!model) return report(kProgram, model.error());
  if (const auto fault = usage_fault(options, **model)) return report(kProgram, *fault);
  FileSinkOptions sink_options;
  sink_options.force = options.force;
  auto sink = create_file(options.destination,
                          sink_options);  // Before the long work: a destination that is refused is refused at once.
  if (!sink) return report(kProgram, sink.error());
  auto plan = make_plan(options, **model, stop);
  if (!plan) return report(kProgram, plan.error());
  if (options.explain && !options.json) print_explanation(**model, *plan);
  WriterOptions writer_options;
  writer_options.threads = options.threads;
  writer_options.stop = &stop;
  auto writer = Writer::create(*std::move(sink), writer_options);
  if (!writer) return report(kProgram, writer.error());
  auto conversion = std::make_unique<Conversion>(options, **model, *plan, *std::move(writer));
  auto result = conversion->run();
  if (!result) {
    Error error = std::move(result).error();
    if (error.file.empty()) error.file = options.source;
    const int code = report(kProgram, error);
    return code == kUsage ? static_cast<int>(kErrorsLeft)
                          : code;  // What the writer does not take is the model's fault by now.
  }
  if (options.json) {
    print_document(options, **model, *plan, *conversion, *result);
  } else {
    print_summary(options, **model, *plan, *conversion, *result);
  }
  return kClean;
}

}  // namespace

std::function<int()> add_convert(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("SRC", options->source, "A .safetensors file, or a Hugging Face directory (config.json and shards)")
      ->required();
  app.add_option("DST", options->destination, "The .cdna file to write")->required();
  app.add_option("--encoding", options->encoding,
                 "A preset: exact, exact-z, cb8, cb8g64, cb6g64, cb5g32, cb4g32; with parameters after commas, as in\n"
                 "cb8,class=pwl16 or cb6g64,k=50,outliers=0.001 (k, group, outliers, class)")
      ->capture_default_str();
  app.add_option("--codec", options->codec, "Block codec; blocks that gain less than 3 % are stored raw")
      ->check(CLI::IsMember({"raw", "zstd", "brotli"}))
      ->capture_default_str();
  app.add_option("--keep-exact", options->keep_exact, "Shell pattern of tensor names that stay exact; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--threads", options->threads, "0: one per core. The file does not depend on it")
      ->check(CLI::Range(0U, 1024U))
      ->capture_default_str();
  app.add_flag("--explain", options->explain, "Print the table of roles and the decision for each tensor");
  app.add_flag("--force", options->force, "Replace an existing destination, by rename");
  app.add_flag("--json", options->json, "Print one JSON document instead of text");
  return [options] { return run_convert(*options); };
}

}  // namespace cdna::tools
