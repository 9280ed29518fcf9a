// cdna bench: measures, and compares with references measured in the same run.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "tools/bench/encode_bench.hpp"
#include "tools/bench/io_bench.hpp"
#include "tools/bench/measure.hpp"
#include "tools/bench/quality_bench.hpp"
#include "tools/cdna/commands.hpp"
#include "tools/exit_code.hpp"
#include "tools/interrupt.hpp"

namespace cdna::tools {
namespace {

struct Options {
  bench::IoOptions io;
  bench::QualityOptions quality;
  bench::EncodeOptions encode;
  std::string samples_of;
  std::vector<std::string> quality_presets;
  bool json = false;
};

// Runs a benchmark and returns the exit code.
int finish_quietly(const char* program, const std::function<Result<void>()>& measure) {
  try {
    if (auto result = measure(); !result) return tools::report(program, result.error());
  } catch (const bench::Failure& failure) {
    return tools::report(program, failure.error);
  } catch (const std::runtime_error& error) {  // A folder that cannot be made, OpenSSL, a wrong record of an error.
    fmt::print(stderr, "{}: {}\n", program, error.what());
    return kOperational;
  }
  return kClean;
}

// The same with a table that has begun, whose report it ends.
int finish(const char* program, bench::Report& report, const std::function<Result<void>()>& measure) {
  const int code = finish_quietly(program, measure);
  if (code == kClean) report.finish();
  return code;
}

int run_io(Options& options) {
  constexpr const char* kProgram = "cdna bench io";
  options.io.program = std::filesystem::read_symlink("/proc/self/exe").string();
  bench::Report report(kProgram, options.json);
  report.begin();
  return finish(kProgram, report, [&] { return bench::run_io(options.io, report, stop_on_signals()); });
}

int run_quality(Options& options) {
  constexpr const char* kProgram = "cdna bench quality";
  auto cases = bench::quality_cases(options.quality_presets);
  if (!cases) return tools::report(kProgram, cases.error());
  options.quality.cases = *std::move(cases);
  bench::Report report(kProgram, options.json);
  report.begin_plainly();
  return finish(kProgram, report, [&] { return bench::run_quality(options.quality, report, stop_on_signals()); });
}

int run_encode(Options& options) {
  constexpr const char* kProgram = "cdna bench encode";
  options.encode.program = std::filesystem::read_symlink("/proc/self/exe").string();
  bench::Report report(kProgram, options.json);
  if (!options.samples_of.empty())
    return finish_quietly(kProgram, [&] { return bench::print_samples(options.encode, options.samples_of); });
  report.begin();
  return finish(kProgram, report, [&] { return bench::run_encode(options.encode, report, stop_on_signals()); });
}

void add_encode(CLI::App& encode, Options& options) {
  encode.footer(
      "Each case runs again for each instruction set that the machine has (CDNA_CPU). Writes 550 MB to TMPDIR and\n"
      "removes them. Goals are those of 4096 x 4096; one that is missed is reported, not an error.");
  const CLI::IsMember known(bench::encode_cases());
  encode.add_option("CASE", options.encode.cases, "Cases to measure (all)")->check(known);
  encode.add_option("--rows", options.encode.rows, "Of a matrix")->check(CLI::Range(64, 16384))->capture_default_str();
  encode.add_option("--cols", options.encode.cols, "Of a matrix")->check(CLI::Range(64, 16384))->capture_default_str();
  encode.add_flag("--json", options.json, "One JSON document, schema cdna.bench/1");
  encode.add_option("--samples", options.samples_of, "Print the GB/s of one case as plain numbers")
      ->check(known)
      ->group("");  // What the program says to itself.
}

void add_quality(CLI::App& quality, Options& options) {
  quality.footer(
      "Presets with their parameters, as for convert --encoding: cb8, \"cb6g64,outliers=0.001\", \"cb8,class=pwl16\". "
      "Goals\n"
      "are those of 4096 x 4096; one that is missed is reported, not an error.");
  quality.add_option("CASE", options.quality_presets, "Presets to measure (all)");
  quality.add_option("--rows", options.quality.rows, "Of the weights")
      ->check(CLI::Range(64, 16384))
      ->capture_default_str();
  quality.add_option("--cols", options.quality.cols, "Of the weights")
      ->check(CLI::Range(64, 16384))
      ->capture_default_str();
  quality.add_flag("--json", options.json, "One JSON document, schema cdna.bench/1");
}

}  // namespace

std::function<int()> add_bench(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.require_subcommand(1);
  CLI::App* const io = app.add_subcommand("io", "Opening, verifying and walking through files; what the format adds");
  io->footer(
      "Writes synthetic models of up to 550 MB to TMPDIR and removes them. A goal that is missed is reported, not an\n"
      "error. With --full also: 140,000 codebook tensors, and convert of 4 GiB (needs as much room in TMPDIR).");
  io->add_option("FILE", options->io.file, "Measure this .cdna file");
  io->add_flag("--json", options->json, "One JSON document, schema cdna.bench/1");
  io->add_flag("--full", options->io.full, "All cases, also those that take minutes");
  CLI::App* const quality = app.add_subcommand("quality", "Error and size of presets, beside other quantisers");
  add_quality(*quality, *options);
  CLI::App* const encode = app.add_subcommand("encode", "Speed of the compressor and of whole conversions");
  add_encode(*encode, *options);
  return [options, io, quality] {
    if (io->parsed()) return run_io(*options);
    return quality->parsed() ? run_quality(*options) : run_encode(*options);
  };
}

}  // namespace cdna::tools
