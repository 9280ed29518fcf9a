// cdna: converts models to CDNA files and back, compares them, and multiplies with them.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <utility>
#include <vector>

#include "cdna/version.hpp"
#include "tools/cdna/commands.hpp"
#include "tools/exit_code.hpp"
#include "tools/programs.hpp"

namespace cdna::tools {

int cdna_main(int argc, char** argv) {
  CLI::App app{
      "Neural-network weights in CDNA files: verified, compressed, memory-mapped.\n\n"
      "  cdna convert model/ model.cdna                     every tensor bit for bit\n"
      "  cdna convert model/ model.cdna --encoding cb8      matrices as 8-bit codes\n"
      "  cdna export model.cdna model.safetensors\n"
      "  cdna diff model.cdna model/                        what differs, by digest and in dB\n"
      "  cdna matmul model.cdna NAME x.npy y.npy            y = x W^T\n"
      "  cdna inspect model.cdna                            what it holds (also cdna-inspect)\n"
      "  cdna fsck model.cdna                               whether it is sound (also cdna-fsck)",
      "cdna"};
  app.footer(kExitCodeHelp);
  app.set_version_flag("--version", "cdna " + std::string(kLibraryVersion) + ", CDNA format version 3");
  app.require_subcommand(1);
  std::vector<std::pair<CLI::App*, std::function<int()>>> commands;
  const auto add = [&](const char* name, const char* help, std::function<int()> (*declare)(CLI::App&)) {
    CLI::App* const command = app.add_subcommand(name, help);
    command->footer(kExitCodeHelp);
    commands.emplace_back(command, declare(*command));
  };
  add("convert", "Convert a model in another format to a .cdna file", add_convert);
  add("export", "Write the tensors of a .cdna file in another format", add_export);
  add("diff",
      "Compare two .cdna files, or a .cdna file and what it was made of. What is called the same has been verified:\n"
      "a damaged block of either is trouble",
      add_diff);
  CLI::App* const diff = app.get_subcommand("diff");
  diff->footer(kDiffExitCodeHelp);
  add("matmul", "Multiply a .npy array with a tensor, straight from the file", add_matmul);
  add("receipt", "Verify receipts that helix-substrate wrote", add_receipt);
  add("bench", "Measure speed and overhead on this machine", add_bench);
  if (const int code = parse_arguments(app, argc, argv); code >= 0)
    return diff->parsed() ? diff_exit_code_of(code) : code;
  for (const auto& [command, run] : commands) {
    if (!command->parsed()) continue;
    const int code = run_guarded("cdna", run);
    return command == diff ? diff_exit_code_of(code) : code;
  }
  return kUsage;
}

}  // namespace cdna::tools
