// cdna diff: what is different between two models, as containers or as they were before.
#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>

#include "tools/cdna/commands.hpp"
#include "tools/cdna/model_difference.hpp"
#include "tools/exit_code.hpp"
#include "tools/interrupt.hpp"
#include "tools/json.hpp"
#include "tools/model_arguments.hpp"
#include "tools/progress.hpp"
#include "tools/text.hpp"

namespace cdna::tools {
namespace {

constexpr const char* kProgram = "cdna diff";

struct Options {
  std::string a;
  std::string b;
  ModelArguments model;
  DifferenceOptions compare;
  bool all = false;
  bool quiet = false;
  bool json = false;
};

ordered_json side_json(const ComparedModel& model) {
  ordered_json out{{"path", model.path()}, {"kind", model.is_container() ? "cdna" : "source"}};
  out["root"] = model.root() ? ordered_json(to_hex(*model.root())) : ordered_json(nullptr);
  return out;
}

template <class T>
ordered_json or_null(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json difference_json(const ComparedTensor& tensor, const TensorDifference& difference) {
  ordered_json out{{"elements", difference.elements}, {"differing", difference.differing}};
  out["first"] = or_null(difference.first);
  out["first_index"] = nullptr;
  if (difference.first) out["first_index"] = indices_of(tensor.shape, *difference.first);
  const bool finite = difference.numeric && std::isfinite(difference.max_abs);
  out["max_abs"] = finite ? ordered_json(difference.max_abs) : ordered_json(nullptr);
  out["snr_db"] = or_null(difference.snr_db());
  out["relative_frobenius"] = or_null(difference.relative_error());
  return out;
}

ordered_json tensor_json(const TensorComparison& tensor) {
  ordered_json out{{"name", tensor.name}, {"verdict", name_of(tensor.verdict)}};
  const auto of_both = [&tensor](const auto& value_of) {
    return ordered_json{tensor.a == nullptr ? ordered_json(nullptr) : ordered_json(value_of(*tensor.a)),
                        tensor.b == nullptr ? ordered_json(nullptr) : ordered_json(value_of(*tensor.b))};
  };
  out["dtype"] = of_both([](const ComparedTensor& side) { return format_dtype(side.dtype); });
  out["shape"] = of_both([](const ComparedTensor& side) { return side.shape; });
  out["encoding"] = of_both([](const ComparedTensor& side) { return side.stored ? side.encoding : "source"; });
  out["same_source"] = or_null(tensor.same_source);
  out["difference"] = tensor.difference ? difference_json(*tensor.a, *tensor.difference) : ordered_json(nullptr);
  if (tensor.error) out["error"] = tensor.error->describe();
  return out;
}

ordered_json parts_json(const std::vector<PartComparison>& parts) {
  ordered_json out = ordered_json::array();
  for (const PartComparison& part : parts) {
    out.push_back({{"name", part.name}, {"verdict", name_of(part.verdict)}});
    if (part.error) out.back()["error"] = part.error->describe();
  }
  return out;
}

void print_document(const ComparedModel& a, const ComparedModel& b, const ModelDifference& difference, int code) {
  ordered_json out{{"schema", "cdna.diff/1"}, {"a", side_json(a)}, {"b", side_json(b)}};
  out["same"] = difference.same();
  out["exit_code"] = code;
  out["counts"] = ordered_json::object();
  for (const auto& [verdict, count] : difference.counts()) out["counts"][std::string(name_of(verdict))] = count;
  out["tensors"] = ordered_json::array();
  for (const TensorComparison& tensor : difference.tensors) out["tensors"].push_back(tensor_json(tensor));
  out["assets"] = parts_json(difference.assets);
  out["metadata"] = parts_json(difference.metadata);
  tools::print_json(out);
}

std::string verdict_text(const Options& options, Verdict verdict) {
  if (verdict == Verdict::only_in_a) return "only in " + escape(options.a);
  if (verdict == Verdict::only_in_b) return "only in " + escape(options.b);
  return std::string(name_of(verdict));
}

std::string figures_text(const ComparedTensor& tensor, const TensorDifference& difference) {
  std::string text = fmt::format("{} of {} elements, first at {}", difference.differing, difference.elements,
                                 format_position(tensor.shape, *difference.first));
  if (!difference.numeric) return text;
  text += fmt::format("; max abs {:.4g}", difference.max_abs);
  if (const auto snr = difference.snr_db()) text += fmt::format(", SNR {:.2f} dB", *snr);
  if (const auto error = difference.relative_error()) text += fmt::format(", relative error {:.4g}", *error);
  return text;
}

std::string tensor_text(const Options& options, const TensorComparison& tensor) {
  std::string text = fmt::format("{}: {}", escape(tensor.name), verdict_text(options, tensor.verdict));
  if (tensor.error) return text;  // It was reported.
  if (tensor.a != nullptr && tensor.b != nullptr) {
    if (tensor.a->dtype != tensor.b->dtype)
      text += fmt::format(", dtype {} and {}", format_dtype(tensor.a->dtype), format_dtype(tensor.b->dtype));
    if (tensor.a->shape != tensor.b->shape)
      text += fmt::format(", shape {} and {}", format_shape(tensor.a->shape), format_shape(tensor.b->shape));
  }
  if (tensor.difference && tensor.difference->differing > 0) text += ": " + figures_text(*tensor.a, *tensor.difference);
  const bool says_so = tensor.verdict == Verdict::identical_bytes || tensor.verdict == Verdict::same_source;
  if (tensor.same_source && !says_so) text += *tensor.same_source ? " (same source)" : " (different sources)";
  return text;
}

void print_parts(const Options& options, const char* kind, const std::vector<PartComparison>& parts) {
  for (const PartComparison& part : parts) {
    if (is_same(part.verdict) && !options.all) continue;
    fmt::print("{} {}: {}\n", kind, escape(part.name), verdict_text(options, part.verdict));
  }
}

void print_text(const Options& options, const ModelDifference& difference) {
  for (const TensorComparison& tensor : difference.tensors) {
    if (options.all || !is_same(tensor.verdict)) fmt::print("{}\n", tensor_text(options, tensor));
  }
  print_parts(options, "asset", difference.assets);
  print_parts(options, "metadata", difference.metadata);
  std::vector<std::string> counts;
  for (const auto& [verdict, count] : difference.counts())
    counts.push_back(fmt::format("{} {}", count, verdict_text(options, verdict)));
  fmt::print("{} and {} {}; tensors: {}\n", escape(options.a), escape(options.b),
             difference.same() ? "are the same" : "differ",
             counts.empty() ? "none" : fmt::format("{}", fmt::join(counts, ", ")));
}

void report_errors(const ModelDifference& difference) {
  const auto report_all = [](const auto& parts) {
    for (const auto& part : parts) {
      if (!part.error) continue;
      Error error = *part.error;
      if (error.item.empty()) error.item = part.name;
      report(kProgram, error);
    }
  };
  report_all(difference.tensors);
  report_all(difference.assets);
  report_all(difference.metadata);
}

int run_diff(const Options& options) {
  const std::atomic<bool>& stop = stop_on_signals();
  const auto a = ComparedModel::open(options.a, model_options(options.model));
  if (!a) return report(kProgram, a.error());
  const auto b = ComparedModel::open(options.b, model_options(options.model));
  if (!b) return report(kProgram, b.error());
  Progress progress("comparing");
  DifferenceOptions compare = options.compare;
  compare.progress = [&progress](std::uint64_t done, std::uint64_t all) { progress.show(done, all); };
  const ModelDifference difference = compare_models(*a, *b, compare, stop);
  progress.clear();
  if (stop.load()) return report(kProgram, stopped());
  if (!compare.globs.empty() && difference.tensors.empty()) {
    fmt::print(stderr, "{}: no tensor has such a name\n", kProgram);
    return kTrouble;
  }
  report_errors(difference);
  const int code = difference.trouble() ? kTrouble : difference.same() ? kSame : kDifferent;
  if (options.json) {
    print_document(*a, *b, difference, code);
  } else if (!options.quiet) {
    print_text(options, difference);
  }
  return code;
}

}  // namespace

std::function<int()> add_diff(CLI::App& app) {
  auto options = std::make_shared<Options>();
  DifferenceOptions& compare = options->compare;
  app.add_option("A", options->a, "A .cdna file, or a model as `cdna convert` takes it")->required();
  app.add_option("B", options->b, "Another")->required();
  app.add_option("GLOB", compare.globs, "Shell patterns: only tensors whose names match; no assets, no metadata");
  add_model_options(app, "a side that is no .cdna file", options->model);
  app.add_flag("--tensors-only", compare.tensors_only, "No assets and no metadata");
  app.add_option("--max-abs", compare.tolerance.max_abs,
                 "Tensors of floats are the same where no element differs by more")
      ->check(CLI::NonNegativeNumber);
  app.add_option(
      "--min-snr", compare.tolerance.snr_db_min,
      "Tensors of floats are the same where the ratio of A to the difference has so many dB (with --max-abs:\n"
      "both)");
  compare.threads = 0;
  app.add_option("--threads", compare.threads, "0: one per core")->check(CLI::Range(0U, 1024U))->capture_default_str();
  app.add_flag("--all", options->all, "List what is the same, too");
  app.add_flag("--quiet", options->quiet, "Print nothing: the exit code says it");
  app.add_flag("--json", options->json, "One JSON document, schema cdna.diff/1");
  return [options] { return diff_exit_code_of(run_diff(*options)); };
}

}  // namespace cdna::tools
