// Speed and memory of multiplying straight from the file, beside what the machine can do.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "tools/bench/report.hpp"

namespace cdna::tools::bench {

struct MatmulBenchOptions {
  std::string file;  // With `tensor`: measured instead of synthetic matrices; "" for none.
  std::string tensor;
  std::vector<std::string> cases;  // Beginnings of names of cases; empty: all.
  std::uint64_t bytes = 0;         // Of codes in matrices beyond the cache; 0: chosen for this machine.
  std::string program;             // The path of `cdna`, for measurements of memory.
};

// Begins the report, unless what was asked for is not there, and adds the rows of `cdna bench matmul`. Goals are those
// of the chosen number of bytes. Errors: bad_argument (no such tensor, no case of that name); those of reading, writing
// and multiplying; cancelled.
Result<void> run_matmul(const MatmulBenchOptions& options, Report& report, const std::atomic<bool>& stop);

}  // namespace cdna::tools::bench
