// What the tools return, one table for all of them (the bits of e2fsck).
#pragma once

#include <functional>

#include "cdna/error.hpp"

namespace CLI {
class App;
}

namespace cdna::tools {

enum ExitCode : int {
  kClean = 0,
  kErrorsLeft = 4,   // A file breaks its format or does not match its digests.
  kOperational = 8,  // I/O, memory, an existing destination.
  kUsage = 16,
  kInterrupted = 130,  // 128 + SIGINT.
};

// What `cdna diff` returns, as diff(1) does; 130 when it was interrupted.
enum DiffExitCode : int { kSame = 0, kDifferent = 1, kTrouble = 2 };

inline constexpr const char* kExitCodeHelp =
    "Exit codes: 0 success, 4 an input file is damaged or breaks its format, 8 operational failure\n"
    "(I/O, memory, destination exists), 16 usage, 130 interrupted.";

inline constexpr const char* kDiffExitCodeHelp =
    "Exit codes, those of diff(1): 0 the same, 1 different, 2 trouble (usage, I/O, a damaged file); 130 interrupted.";

// Of what the other tools would return, or a DiffExitCode, a DiffExitCode; 130 stays.
int diff_exit_code_of(int code);

// The exit code that an error means.
int exit_code_of(const Error& error);

// Prints "NAME: ERROR" to stderr and returns exit_code_of().
int report(const char* program, const Error& error);

// Runs a tool's work. Out of memory, and output that cannot be written (a full disk behind stdout), become
// kOperational.
int run_guarded(const char* program, const std::function<int()>& work);

// Parses the arguments; prints help or what is wrong. Returns -1 to go on, else the exit code.
int parse_arguments(CLI::App& app, int argc, char** argv);

}  // namespace cdna::tools
