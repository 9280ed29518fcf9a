// Errors and arguments to exit codes.
#include "tools/exit_code.hpp"

#include <CLI/CLI.hpp>
#include <cstdio>

namespace cdna::tools {

int exit_code_of(const Error& error) {
  switch (error.code) {
    case Code::not_cdna:
    case Code::truncated:
    case Code::corrupt:
    case Code::root_mismatch:
    case Code::malformed:
    case Code::unsupported:
    case Code::limit: return kErrorsLeft;
    case Code::bad_argument: return kUsage;
    case Code::cancelled: return kInterrupted;
    default: return kOperational;
  }
}

int report(const char* program, const Error& error) {
  std::fprintf(stderr, "%s: %s\n", program, error.describe().c_str());
  return exit_code_of(error);
}

int parse_arguments(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kClean : kUsage;
  }
  return -1;
}

}  // namespace cdna::tools
