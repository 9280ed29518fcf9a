// Errors and arguments to exit codes.
#include "tools/exit_code.hpp"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

namespace cdna::tools {

int exit_code_of(const Error& error) {
  switch (error.code) {
    case Code::not_cdna:
    case Code::truncated:
    case Code::corrupt:
    case Code::root_mismatch:
    case Code::malformed:
    case Code::unsupported:
    case Code::limit:
      return kErrorsLeft;
    case Code::bad_argument:
      return kUsage;
    case Code::cancelled:
      return kInterrupted;
    default:
      return kOperational;
  }
}

int diff_exit_code_of(int code) {
  return code == kSame || code == kDifferent || code == kInterrupted ? code : static_cast<int>(kTrouble);
}

int report(const char* program, const Error& error) {
  const char* const advice = error.code == Code::exists && error.rule[0] == '\0' ? " (--force replaces it)" : "";
  std::fprintf(stderr, "%s: %s%s\n", program, error.describe().c_str(), advice);
  return exit_code_of(error);
}

int run_guarded(const char* program, const std::function<int()>& work) {
  int code = kOperational;
  try {
    code = work();
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "%s: out of memory\n", program);
    return kOperational;
  } catch (const std::exception& exception) {
    std::fprintf(stderr, "%s: %s\n", program, exception.what());
    return kOperational;
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    std::perror((std::string(program) + ": cannot write the output").c_str());
    return code == kClean ? static_cast<int>(kOperational) : code;
  }
  return code;
}

int parse_arguments(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help and --version.
    std::fprintf(stderr, "%s: %s (--help says more)\n", app.get_name().c_str(), escape(error.what()).c_str());
    return kUsage;
  }
  return -1;
}

}  // namespace cdna::tools
