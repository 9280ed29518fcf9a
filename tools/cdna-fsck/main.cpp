// cdna-fsck: checks CDNA files, and rebuilds lost footers into new files. Never writes to what it checks.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>

#include "cdna/fsck.hpp"
#include "cdna/import.hpp"
#include "cdna/reader.hpp"
#include "cdna/version.hpp"
#include "tools/cdna-fsck/reference_check.hpp"
#include "tools/exit_code.hpp"
#include "tools/interrupt.hpp"
#include "tools/json.hpp"
#include "tools/model_arguments.hpp"
#include "tools/programs.hpp"
#include "tools/progress.hpp"
#include "tools/text.hpp"

namespace cdna::tools {
namespace {

constexpr const char* kProgram = "cdna-fsck";

struct Options {
  std::vector<std::string> files;
  std::optional<std::string> root;
  std::optional<std::string> rebuild;
  std::optional<std::string> reference;
  ModelArguments model;  // What the reference is.
  unsigned threads = 0;
  bool quick = false;
  bool deep = false;
  bool force = false;
  bool json = false;
};

const char* level_name(const Options& options) { return options.quick ? "quick" : options.deep ? "deep" : "standard"; }

FsckReport check_file(const Options& options, const std::string& path, const std::atomic<bool>& stop) {
  auto source = open_source(path);
  if (!source) {
    FsckReport report;
    report.operational_failure = true;
    report.problem_count = 1;
    report.problems.push_back({std::move(source).error(), 0, 0});
    return report;
  }
  Progress progress("checking " + escape(path));
  FsckOptions check;
  check.level = options.quick ? FsckLevel::quick : options.deep ? FsckLevel::deep : FsckLevel::standard;
  if (options.root) check.expected_root = digest_of(*options.root);
  check.threads = options.threads;
  check.stop = &stop;
  check.progress = [&progress](std::uint64_t done, std::uint64_t all) { progress.show(done, all); };
  return fsck(*std::move(source), check);
}

// A file that does not open, or is not complete, has no tensors to compare: the check said why.
std::optional<ReferenceReport> compare_file(const Options& options, const std::string& path, const FsckReport& checked,
                                            const Model& reference, const std::atomic<bool>& stop) {
  if (!checked.complete || checked.operational_failure) return std::nullopt;
  OpenOptions open_options;
  if (options.root) open_options.expected_root = digest_of(*options.root);
  const auto reader = Reader::open(path, open_options);
  if (!reader) return std::nullopt;
  Progress progress("comparing " + escape(path));
  ReferenceOptions compare;
  compare.threads = options.threads;
  compare.stop = &stop;
  compare.progress = [&progress](std::uint64_t done, std::uint64_t all) { progress.show(done, all); };
  return check_reference(*reader, reference, compare);
}

int exit_bits_of(const ReferenceReport& report) {
  // Of a reference that cannot be read and nothing else there is no problem of the file.
  int code = report.operational_failure ? kOperational : kClean;
  const bool differs = std::any_of(report.problems.begin(), report.problems.end(), [](const FsckProblem& problem) {
    return tools::exit_code_of(problem.error) == kErrorsLeft;
  });
  return differs ? code | kErrorsLeft : code;
}

int exit_bits_of(const FsckReport& report) {
  // Not all problems are listed. A path that cannot be opened is no fault of the command line: bits 4 and 8 only.
  int code = report.operational_failure ? kOperational : kClean;
  if (report.problem_count > report.problems.size()) code |= kErrorsLeft;
  for (const FsckProblem& problem : report.problems) {
    if (tools::exit_code_of(problem.error) == kErrorsLeft) code |= kErrorsLeft;
  }
  return code;
}

ordered_json problem_json(const FsckProblem& problem) {
  const Error& error = problem.error;
  ordered_json out{{"class", name_of(error.code)}, {"rule", error.rule}, {"message", error.message}};
  out["item"] = error.item.empty() ? ordered_json(nullptr) : ordered_json(error.item);
  out["plane"] = error.plane < 0 ? ordered_json(nullptr) : ordered_json(error.plane);
  out["block"] = error.block < 0 ? ordered_json(nullptr) : ordered_json(error.block);
  out["offset"] = error.offset == kNoOffset ? ordered_json(nullptr) : ordered_json(error.offset);
  out["bytes"] = problem.end > problem.begin ? ordered_json{problem.begin, problem.end} : ordered_json(nullptr);
  return out;
}

ordered_json reference_json(const std::string& source, const ReferenceReport& report) {
  ordered_json out{{"source", source},
                   {"agrees", report.problem_count == 0},
                   {"tensors_compared", report.tensors_compared},
                   {"problem_count", report.problem_count}};
  out["problems"] = ordered_json::array();
  for (const FsckProblem& problem : report.problems) out["problems"].push_back(problem_json(problem));
  out["notes"] = report.notes;
  return out;
}

ordered_json report_json(const std::string& path, const FsckReport& report) {
  ordered_json out{{"file", path}, {"complete", report.complete}, {"valid", report.valid}};
  out["root"] = report.root ? ordered_json(to_hex(*report.root)) : ordered_json(nullptr);
  out["items"] = report.item_count;
  out["unsupported"] = report.unsupported_count;
  out["blocks_checked"] = report.blocks_checked;
  out["problem_count"] = report.problem_count;
  out["problems"] = ordered_json::array();
  for (const FsckProblem& problem : report.problems) out["problems"].push_back(problem_json(problem));
  return out;
}

void print_problems(const std::string& path, const std::vector<FsckProblem>& problems) {
  for (const FsckProblem& problem : problems) {
    Error error = problem.error;
    if (error.file.empty()) error.file = path;
    const std::string range =
        problem.end > problem.begin ? fmt::format("  bytes {}..{}", problem.begin, problem.end) : "";
    fmt::print("{}{}\n", error.describe(), range);
  }
}

void print_reference(const std::string& path, const std::string& source, const ReferenceReport& report) {
  print_problems(path, report.problems);
  if (report.problem_count > report.problems.size())
    fmt::print("{}: {} more problems\n", escape(path), report.problem_count - report.problems.size());
  for (const std::string& note : report.notes) fmt::print("note: {}\n", note);
  fmt::print("{}: {} {}; {} tensors compared, {} problems\n", escape(path),
             report.problem_count == 0 ? "agrees with" : "DOES NOT AGREE with", escape(source), report.tensors_compared,
             report.problem_count);
}

void print_report(const std::string& path, const FsckReport& report) {
  print_problems(path, report.problems);
  const std::uint64_t unshown = report.problem_count - report.problems.size();
  if (report.problem_count > report.problems.size())
    fmt::print("{}: {} more problems (joined or not listed)\n", escape(path), unshown);
  const std::string unsupported =
      report.unsupported_count == 0 ? "" : fmt::format(", {} of later versions", report.unsupported_count);
  if (report.operational_failure) {
    fmt::print("{}: could not be checked\n", escape(path));
  } else {
    fmt::print("{}: {}, {}; {} items{}, {} blocks{}\n", escape(path), report.complete ? "complete" : "incomplete",
               report.valid ? "valid" : "NOT VALID", report.item_count, unsupported, report.blocks_checked,
               report.root ? ", root " + to_hex(*report.root) : "");
  }
}

// One file, checked and perhaps compared; its part of the JSON document goes to `reports`.
int run_check(const Options& options, const std::string& path, const Model* reference, const std::atomic<bool>& stop,
              ordered_json& reports) {
  const FsckReport report = check_file(options, path, stop);
  std::optional<ReferenceReport> compared;
  if (reference != nullptr && !stop.load()) compared = compare_file(options, path, report, *reference, stop);
  if (stop.load()) return kInterrupted;
  if (options.json) {
    reports.push_back(report_json(path, report));
    if (reference != nullptr)
      reports.back()["reference"] = compared ? reference_json(*options.reference, *compared) : ordered_json(nullptr);
  } else {
    print_report(path, report);
    if (compared) print_reference(path, *options.reference, *compared);
    if (reference != nullptr && !compared)
      fmt::print("{}: not compared with {}\n", escape(path), escape(*options.reference));
  }
  return exit_bits_of(report) | (compared ? exit_bits_of(*compared) : kClean);
}

int run_check(const Options& options) {
  const std::atomic<bool>& stop = stop_on_signals();
  std::unique_ptr<Model> reference;
  if (options.reference) {
    auto model = open_model(*options.reference, model_options(options.model));
    if (!model) return report(kProgram, model.error());
    reference = *std::move(model);
  }
  int code = kClean;
  ordered_json reports = ordered_json::array();
  for (const std::string& path : options.files) {
    const int bits = run_check(options, path, reference.get(), stop, reports);
    if (bits == kInterrupted) return kInterrupted;
    code |= bits;
  }
  if (options.json) {
    const ordered_json out{
        {"schema", "cdna.fsck/1"}, {"level", level_name(options)}, {"exit_code", code}, {"files", std::move(reports)}};
    print_json(out);
  }
  return code;
}

int run_rebuild(const Options& options) {
  if (options.files.size() != 1 || !has_suffix(*options.rebuild, ".cdna")) {
    fmt::print(stderr, "{}: --rebuild takes one FILE, and its OUT must end in .cdna\n", kProgram);
    return kUsage;
  }
  std::error_code ignored;
  if (std::filesystem::equivalent(options.files[0], *options.rebuild, ignored)) {
    fmt::print(stderr, "{}: --rebuild writes a new file, never FILE itself\n", kProgram);
    return kUsage;
  }
  const std::atomic<bool>& stop = stop_on_signals();
  auto source = open_source(options.files[0]);
  if (!source) return report(kProgram, source.error());
  FileSinkOptions sink_options;
  sink_options.force = options.force;
  auto sink = create_file(*options.rebuild, sink_options);
  if (!sink) return report(kProgram, sink.error());
  auto rebuilt = rebuild(**source, *std::move(sink), &stop);
  if (!rebuilt) return report(kProgram, rebuilt.error());
  const int code = rebuilt->complete ? kClean : kErrorsLeft;
  if (options.json) {
    const ordered_json out{{"schema", "cdna.rebuild/1"},      {"file", options.files[0]},
                           {"destination", *options.rebuild}, {"complete", rebuilt->complete},
                           {"items", rebuilt->item_count},    {"recovered_bytes", rebuilt->recovered_bytes},
                           {"root", to_hex(rebuilt->root)},   {"exit_code", code}};
    print_json(out);
    return code;
  }
  fmt::print("{}: {} from {} items, {} of {} recovered; root {}\n", escape(*options.rebuild),
             rebuilt->complete ? "rebuilt" : "SALVAGED (items may be missing)", rebuilt->item_count,
             format_bytes(rebuilt->recovered_bytes), format_bytes((*source)->size_bytes()), to_hex(rebuilt->root));
  return code;
}

int run(const Options& options) {
  if (options.files.empty()) {
    fmt::print(stderr, "{}: no FILE\n", kProgram);
    return kUsage;
  }
  if (options.quick && options.deep) {
    fmt::print(stderr, "{}: --quick and --deep exclude each other\n", kProgram);
    return kUsage;
  }
  if (options.reference && (!options.deep || options.rebuild)) {
    fmt::print(stderr, "{}: --reference is part of --deep, and not of --rebuild\n", kProgram);
    return kUsage;
  }
  if (!options.reference && (options.model.from != "auto" || !options.model.sidecar.empty())) {
    fmt::print(stderr, "{}: --from and --sidecar say what the --reference is\n", kProgram);
    return kUsage;
  }
  if (options.root && !digest_of(*options.root)) {
    fmt::print(stderr, "{}: --root is not 64 hexadecimal digits\n", kProgram);
    return kUsage;
  }
  return options.rebuild ? run_rebuild(options) : run_check(options);
}

}  // namespace

int fsck_main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Checks CDNA files and lists bad byte ranges. Never writes to them.\n"
      "quick: metadata and indices; default: and all digests; deep: and decode, gaps, records, padding, finite scales.",
      "cdna-fsck"};
  app.footer(
      "Exit codes, ORed over the files: 0 clean, 4 errors left, 8 operational failure, 16 usage; 130 interrupted.");
  app.set_version_flag("--version", "cdna-fsck " + std::string(kLibraryVersion) + ", CDNA format version 3");
  app.add_option("FILE", options.files, "CDNA files");
  app.add_flag("--quick", options.quick, "Metadata and indices only");
  app.add_flag("--deep", options.deep, "Decode everything as well");
  app.add_option("--reference", options.reference,
                 "With --deep: the model that the files were made of, as `cdna convert` takes it. Compares\n"
                 "exact tensors byte for byte, and recomputes every recorded error and statistic of the others");
  add_model_options(app, "the reference", options.model);
  app.add_option("--root", options.root, "The root that the files must have, 64 hexadecimal digits");
  app.add_option(
      "--rebuild", options.rebuild,
      "Write a new file OUT from the records of FILE, whose footer or tail is lost; 4 if only a part was found");
  app.add_option("--threads", options.threads, "0: one per core")->check(CLI::Range(0U, 1024U))->capture_default_str();
  app.add_flag("--force", options.force, "Replace an existing OUT, by rename");
  app.add_flag("--json", options.json, "One JSON document, schema cdna.fsck/1");
  if (const int code = parse_arguments(app, argc, argv); code >= 0) return code;
  return run_guarded(kProgram, [&options] { return run(options); });
}

}  // namespace cdna::tools
