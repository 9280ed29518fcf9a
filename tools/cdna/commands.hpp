// The subcommands of cdna.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace cdna::tools {

// Declares the subcommand's options; the result runs it and returns the exit code.
std::function<int()> add_convert(CLI::App& app);
std::function<int()> add_diff(CLI::App& app);
std::function<int()> add_export(CLI::App& app);
std::function<int()> add_matmul(CLI::App& app);
std::function<int()> add_bench(CLI::App& app);
std::function<int()> add_receipt(CLI::App& app);

}  // namespace cdna::tools
