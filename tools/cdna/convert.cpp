// cdna convert: a model, tensor by tensor in name order, into a container.
#include <fmt/format.h>

#include <atomic>
#include <cstdio>
#include <memory>

#include "cdna/import.hpp"
#include "cdna/writer.hpp"
#include "tools/cdna/commands.hpp"
#include "tools/cdna/conversion.hpp"
#include "tools/cdna/conversion_report.hpp"
#include "tools/cdna/convert_options.hpp"
#include "tools/cdna/convert_request.hpp"
#include "tools/cdna/plan.hpp"
#include "tools/exit_code.hpp"
#include "tools/interrupt.hpp"
#include "tools/text.hpp"

namespace cdna::tools {
namespace {

constexpr const char* kProgram = "cdna convert";

int report_about(const std::string& source, Error error) {
  if (error.file.empty()) error.file = source;
  const int code = report(kProgram, error);
  // What the writer does not take is the model's fault by now.
  return code == kUsage ? static_cast<int>(kErrorsLeft) : code;
}

int run_convert(const ConvertOptions& options) {
  if (!has_suffix(options.destination, ".cdna")) {
    fmt::print(stderr, "{}: {}: the destination must end in .cdna\n", kProgram, escape(options.destination));
    return kUsage;
  }
  const auto request = parse_request(options);
  if (!request) return report(kProgram, request.error());
  const std::atomic<bool>& stop = stop_on_signals();
  auto model = open_model(options.source);
  if (!model) return report(kProgram, model.error());
  FileSinkOptions sink_options;
  sink_options.force = options.force;
  // Before the long work: a destination that is refused is refused at once.
  auto sink = create_file(options.destination, sink_options);
  if (!sink) return report(kProgram, sink.error());
  const auto plan = make_plan(options, *request, **model, stop);
  if (!plan) return report(kProgram, plan.error());
  for (const std::string& note : plan->notes) fmt::print(stderr, "{}: note: {}\n", kProgram, escape(note));
  if (options.explain && !options.json) print_explanation(**model, *plan);
  WriterOptions writer_options;
  writer_options.threads = options.threads;
  writer_options.stop = &stop;
  auto writer = Writer::create(*std::move(sink), writer_options);
  if (!writer) return report(kProgram, writer.error());
  const auto conversion = std::make_unique<Conversion>(**model, *plan, *codec_of(options.codec),
                                                       metadata_of(options, *request, **model), *std::move(writer));
  auto root = conversion->run();
  if (!root) return report_about(options.source, std::move(root).error());
  const Finished finished{options, **model, *plan, *conversion, *root};
  if (options.json) {
    print_document(finished);
  } else {
    print_summary(finished);
  }
  return kClean;
}

}  // namespace

std::function<int()> add_convert(CLI::App& app) {
  auto options = std::make_shared<ConvertOptions>();
  app.add_option("SRC", options->source, "A .safetensors file, or a Hugging Face directory (config.json and shards)")
      ->required();
  app.add_option("DST", options->destination, "The .cdna file to write")->required();
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
