// cdna bench: measures, and compares with references measured in the same run.
#include <fmt/format.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "tools/bench/encode_bench.hpp"
#include "tools/bench/io_bench.hpp"
#include "tools/bench/matmul_bench.hpp"
#include "tools/bench/matmul_memory.hpp"
#include "tools/bench/measure.hpp"
#include "tools/bench/quality_bench.hpp"
#include "tools/cdna/commands.hpp"
#include "tools/cdna/size_text.hpp"
#include "tools/exit_code.hpp"
#include "tools/interrupt.hpp"

namespace cdna::tools {
namespace {

struct Options {
  bench::IoOptions io;
  bench::QualityOptions quality;
  bench::EncodeOptions encode;
  bench::MatmulBenchOptions matmul;
  std::string matmul_bytes;
  std::string memory_of;
  std::uint64_t data_bytes_max = 0;
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

int run_matmul(Options& options) {
  constexpr const char* kProgram = "cdna bench matmul";
  if (!options.memory_of.empty()) {
    return finish_quietly(kProgram, [&]() -> Result<void> {
      bench::print_memory(options.memory_of, options.data_bytes_max);
      return {};
    });
  }
  if (!options.matmul_bytes.empty()) options.matmul.bytes = *parse_size(options.matmul_bytes);
  options.matmul.program = std::filesystem::read_symlink("/proc/self/exe").string();
  bench::Report report(kProgram, options.json);
  return finish(kProgram, report, [&] { return bench::run_matmul(options.matmul, report, stop_on_signals()); });
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

// A size of at least 64 KiB.
std::string check_bytes(const std::string& text) {
  const std::optional<std::uint64_t> bytes = parse_size(text);
  return bytes && *bytes >= 65536 ? "" : "not a size of at least 64 KiB: " + escape(text);
}

void add_matmul(CLI::App& matmul, Options& options) {
  matmul.footer(
      "Writes matrices to TMPDIR and removes them: up to three times --bytes, by default twice the last-level cache, "
      "at\n"
      "least 256 MiB, at most a quarter of the memory. With FILE and TENSOR that tensor is measured instead. OpenBLAS "
      "is a\n"
      "reference if libopenblas.so.0 is there. Goals are those of the default size; one that is missed is reported, "
      "not\n"
      "an error. Units: GB/s of codes, Gw/s: 10^9 weights per second, Gop/s: 10^9 products and sums per second.");
  CLI::Option* const file = matmul.add_option("FILE", options.matmul.file, "Measure a tensor of this .cdna file");
  CLI::Option* const tensor = matmul.add_option("TENSOR", options.matmul.tensor, "Its name");
  file->needs(tensor);
  matmul.add_option("--case", options.matmul.cases, "Only cases whose names begin so: gemv.cb8, gemm., memory.64")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  matmul.add_option("--bytes", options.matmul_bytes, "Of codes in matrices beyond the cache")->check(check_bytes);
  matmul.add_flag("--json", options.json, "One JSON document, schema cdna.bench/1");
  // What the program says to itself.
  matmul.add_option("--memory-of", options.memory_of, "Print the memory that multiplying with a file takes")->group("");
  matmul.add_option("--data-max", options.data_bytes_max, "RLIMIT_DATA above what is there")->group("");
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
  CLI::App* const matmul = app.add_subcommand("matmul", "Multiplying straight from the file: speed and memory");
  add_matmul(*matmul, *options);
  return [options, io, quality, matmul] {
    if (io->parsed()) return run_io(*options);
    if (matmul->parsed()) return run_matmul(*options);
    return quality->parsed() ? run_quality(*options) : run_encode(*options);
  };
}

}  // namespace cdna::tools
