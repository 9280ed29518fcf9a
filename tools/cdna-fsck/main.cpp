// cdna-fsck: checks CDNA files, and rebuilds lost footers into new files. Never writes to what it checks.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "cdna/fsck.hpp"
#include "cdna/version.hpp"
#include "tools/exit_code.hpp"
#include "tools/interrupt.hpp"
#include "tools/json.hpp"
#include "tools/progress.hpp"
#include "tools/text.hpp"

namespace cdna::tools {
namespace {

constexpr const char* kProgram = "cdna-fsck";

struct Options {
  std::vector<std::string> files;
  std::optional<std::string> root;
  std::optional<std::string> rebuild;
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

int exit_bits_of(const FsckReport& report) {
  // Not all problems are listed. A path that cannot be opened is no fault of the command line: bits 4 and 8 only.
  int code = report.operational_failure ? kOperational : kClean;
  if (report.problem_count > report.problems.size()) code |= kErrorsLeft;
  for (const FsckProblem& problem : report.problems) {
    if (tools::exit_code_of(problem.error) == kErrorsLeft) code |= kErrorsLeft;
  }
  return code;
}

ordered_json report_json(const std::string& path, const FsckReport& report) {
  ordered_json out{{"file", path}, {"complete", report.complete}, {"valid", report.valid}};
  out["root"] = report.root ? ordered_json(to_hex(*report.root)) : ordered_json(nullptr);
  out["items"] = report.item_count;
  out["unsupported"] = report.unsupported_count;
  out["blocks_checked"] = report.blocks_checked;
  out["problem_count"] = report.problem_count;
  out["problems"] = ordered_json::array();
  for (const FsckProblem& problem : report.problems) {
    const Error& error = problem.error;
    ordered_json one{{"class", name_of(error.code)}, {"rule", error.rule}, {"message", error.message}};
    one["item"] = error.item.empty() ? ordered_json(nullptr) : ordered_json(error.item);
    one["plane"] = error.plane < 0 ? ordered_json(nullptr) : ordered_json(error.plane);
    one["block"] = error.block < 0 ? ordered_json(nullptr) : ordered_json(error.block);
    one["offset"] = error.offset == kNoOffset ? ordered_json(nullptr) : ordered_json(error.offset);
    one["bytes"] = problem.end > problem.begin ? ordered_json{problem.begin, problem.end} : ordered_json(nullptr);
    out["problems"].push_back(std::move(one));
  }
  return out;
}

void print_report(const std::string& path, const FsckReport& report) {
  for (const FsckProblem& problem : report.problems) {
    Error error = problem.error;
    if (error.file.empty()) error.file = path;
    const std::string range =
        problem.end > problem.begin ? fmt::format("  bytes {}..{}", problem.begin, problem.end) : "";
    fmt::print("{}{}\n", error.describe(), range);
  }
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

int run_check(const Options& options) {
  const std::atomic<bool>& stop = stop_on_signals();
  int code = kClean;
  ordered_json reports = ordered_json::array();
  for (const std::string& path : options.files) {
    const FsckReport report = check_file(options, path, stop);
    if (stop.load()) return kInterrupted;
    code |= exit_bits_of(report);
    if (options.json) {
      reports.push_back(report_json(path, report));
    } else {
      print_report(path, report);
    }
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
  if (options.root && !digest_of(*options.root)) {
    fmt::print(stderr, "{}: --root is not 64 hexadecimal digits\n", kProgram);
    return kUsage;
  }
  return options.rebuild ? run_rebuild(options) : run_check(options);
}

}  // namespace
}  // namespace cdna::tools

int main(int argc, char** argv) {
  using namespace cdna::tools;
  Options options;
  CLI::App app{
      "Checks CDNA files and lists bad byte ranges. Never writes to them.\n"
      "quick: metadata and indices; default: and all digests; deep: and decode, gaps, records, padding, finite scales.",
      "cdna-fsck"};
  app.footer(
      "Exit codes, ORed over the files: 0 clean, 4 errors left, 8 operational failure, 16 usage; 130 interrupted.");
  app.set_version_flag("--version", "cdna-fsck " + std::string(cdna::kLibraryVersion) + ", CDNA format version 3");
  app.add_option("FILE", options.files, "CDNA files");
  app.add_flag("--quick", options.quick, "Metadata and indices only");
  app.add_flag("--deep", options.deep, "Decode everything as well");
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
