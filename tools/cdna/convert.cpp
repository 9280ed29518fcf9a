// cdna convert: a model, tensor by tensor in name order, into a container.
#include "cdna/convert.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>

#include "cdna/import.hpp"
#include "tools/cdna/commands.hpp"
#include "tools/cdna/conversion_report.hpp"
#include "tools/cdna/convert_arguments.hpp"
#include "tools/exit_code.hpp"
#include "tools/interrupt.hpp"
#include "tools/progress.hpp"
#include "tools/text.hpp"

namespace cdna::tools {
namespace {

constexpr const char* kProgram = "cdna convert";
constexpr std::size_t kNotesMax = 200;  // On stderr, about a source.

int report_about(const std::string& source, Error error) {
  if (error.file.empty()) error.file = source;
  const int code = report(kProgram, error);
  // What the writer does not take is the model's fault by now.
  return code == kUsage ? static_cast<int>(kErrorsLeft) : code;
}

// With a line of progress that is gone afterwards.
template <class Work>
auto with_progress(const char* label, ConvertOptions& options, const Work& work) {
  Progress progress(label);
  options.progress = [&progress](std::uint64_t done, std::uint64_t total) { progress.show(done, total); };
  auto result = work();
  options.progress = nullptr;
  return result;
}

// What there is to say about the source: stderr gets the first lines, --explain and --json have all.
void print_notes(const Model& model) {
  const std::span<const std::string> notes = model.notes();
  for (const std::string& note : notes.first(std::min(notes.size(), kNotesMax)))
    fmt::print(stderr, "{}: note: {}\n", kProgram, note);
  if (notes.size() > kNotesMax)
    fmt::print(stderr, "{}: {} more notes: --explain and --json have all\n", kProgram, notes.size() - kNotesMax);
}

int run_convert(const ConvertArguments& arguments) {
  if (!has_suffix(arguments.destination, ".cdna")) {
    fmt::print(stderr, "{}: {}: the destination must end in .cdna\n", kProgram, escape(arguments.destination));
    return kUsage;
  }
  auto options = parse_arguments(arguments);
  if (!options) return report(kProgram, options.error());
  options->stop = &stop_on_signals();
  auto model = open_model(arguments.source, model_options(arguments.model));
  if (!model) return report(kProgram, model.error());
  FileSinkOptions sink_options;
  sink_options.force = arguments.force;
  // Before the long work: a destination that is refused is refused at once.
  auto sink = create_file(arguments.destination, sink_options);
  if (!sink) return report(kProgram, sink.error());
  auto plan = with_progress("measuring", *options, [&] { return make_plan(**model, *options); });
  if (!plan) {
    Error error = with_option_names(arguments, std::move(plan).error());
    if (!error.item.empty() && error.file.empty()) error.file = arguments.source;
    return report(kProgram, error);
  }
  for (const std::string& note : plan->notes)
    fmt::print(stderr, "{}: note: {}\n", kProgram, escape(note_with_option_names(note)));
  if (arguments.explain && !arguments.json) print_explanation(**model, *plan);
  auto converted =
      with_progress("converting", *options, [&] { return convert(**model, *plan, *std::move(sink), *options); });
  if (!converted) return report_about(arguments.source, std::move(converted).error());
  if (!arguments.explain || arguments.json) print_notes(**model);
  const Finished finished{arguments.destination, **model, *plan, *converted};
  if (arguments.json) {
    print_document(finished);
  } else {
    print_summary(finished);
  }
  return kClean;
}

}  // namespace

std::function<int()> add_convert(CLI::App& app) {
  auto options = std::make_shared<ConvertArguments>();
  app.add_option(
         "SRC", options->source,
         "A .safetensors, GGUF, .npy or .npz file, a Hugging Face directory (config.json and shards), or what\n"
         "helix-substrate wrote: an HXZC or HXZ2 file, a directory of them, a .cdnav3 directory, an HXQ checkpoint")
      ->required();
  app.add_option("DST", options->destination, "The .cdna file to write")->required();
  add_model_options(app, "SRC", options->model);
  auto* const encoding =
      app.add_option(
             "--encoding", options->encoding,
             "A preset: exact, exact-z, cb8, cb8g64, cb6g64, cb5g32, cb4g32; with parameters after commas, as in\n"
             "cb8,class=pwl16 or cb6g64,k=50,outliers=0.001 (k, group, outliers, class).\n"
             "Embeddings and output heads stay exact")
          ->capture_default_str();
  auto* const policy = app.add_option("--policy", options->policy,
                                      "A JSON file of rules, the first that fits a tensor decides:\n"
                                      "{\"rules\": [{\"glob\": \"*.q_proj.weight\", \"role\": \"matrix\", "
                                      "\"preset\": \"cb8g64\"}, {\"preset\": \"cb6g64\"}]}");
  app.add_option("--embeddings", options->embeddings,
                 "A preset for embeddings and output heads: the rule before those of the policy");
  auto* const bits = app.add_option("--bits-per-weight", options->bits_per_weight,
                                    "Choose presets so that the stored tensors together take so many bits per weight");
  auto* const size = app.add_option("--target-size", options->target_size,
                                    "Choose presets so that the file has at most this size: 6GB, 900MiB, 123456");
  app.add_option("--candidates", options->candidates,
                 "Presets to choose from, with spaces between them; may be repeated\n"
                 "[cb4g32 cb5g32 cb6g64 cb8 cb8g64 exact-z exact]")
      ->allow_extra_args(false);
  app.add_option("--nonfinite", options->nonfinite, "What becomes of NaN and infinity where codes are made")
      ->check(CLI::IsMember({"refuse", "exact"}))
      ->capture_default_str();
  app.add_option("--codec", options->codec, "Block codec; blocks that gain less than 3 % are stored raw")
      ->check(CLI::IsMember({"raw", "zstd", "brotli"}))
      ->capture_default_str();
  policy->excludes(encoding);
  bits->excludes(encoding);
  size->excludes(encoding)->excludes(bits);
  app.add_option("--keep-exact", options->keep_exact,
                 "Shell pattern of tensor names that stay exact; over every rule; may be repeated")
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
