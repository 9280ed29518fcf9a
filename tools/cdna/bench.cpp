// cdna bench: measures, and compares with references measured in the same run.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <system_error>

#include "tools/bench/io_bench.hpp"
#include "tools/bench/measure.hpp"
#include "tools/cdna/commands.hpp"
#include "tools/exit_code.hpp"
#include "tools/interrupt.hpp"

namespace cdna::tools {
namespace {

struct Options {
  bench::IoOptions io;
  bool json = false;
};

int run(Options& options) {
  options.io.program = std::filesystem::read_symlink("/proc/self/exe").string();
  bench::Report report("cdna bench io", options.json);
  report.begin();
  try {
    if (auto result = bench::run_io(options.io, report, stop_on_signals()); !result)
      return tools::report("cdna bench io", result.error());
  } catch (const bench::Failure& failure) {
    return tools::report("cdna bench io", failure.error);
  } catch (const std::runtime_error& error) {  // A folder that cannot be made, OpenSSL.
    fmt::print(stderr, "cdna bench io: {}\n", error.what());
    return kOperational;
  }
  report.finish();
  return kClean;
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
  return [options] { return run(*options); };
}

}  // namespace cdna::tools
