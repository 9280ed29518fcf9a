// One executable for all programs, since each would carry the whole library: by the name it was started with
// (cdna-inspect, cdna-fsck), or by its first word (cdna inspect, cdna fsck).
#include <array>
#include <string_view>

#include "tools/programs.hpp"

namespace {

using Program = int (*)(int argc, char** argv);

struct NamedProgram {
  std::string_view word;
  Program run;
};

constexpr std::array kPrograms{NamedProgram{"inspect", cdna::tools::inspect_main},
                               NamedProgram{"fsck", cdna::tools::fsck_main}};

// What follows the last slash.
std::string_view base_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

int main(int argc, char** argv) {
  constexpr std::string_view kPrefix = "cdna-";
  const std::string_view name = argc > 0 ? base_name(argv[0]) : "";
  const std::string_view word = argc > 1 ? argv[1] : "";
  for (const NamedProgram& program : kPrograms) {
    if (name.starts_with(kPrefix) && name.substr(kPrefix.size()) == program.word) return program.run(argc, argv);
    if (word == program.word) return program.run(argc - 1, argv + 1);
  }
  return cdna::tools::cdna_main(argc, argv);
}
