// Speed of opening, verifying and walking through files, and what the format adds to the data.
#pragma once

#include <atomic>
#include <string>

#include "cdna/error.hpp"
#include "tools/bench/report.hpp"

namespace cdna::tools::bench {

struct IoOptions {
  std::string file;  // Measured instead of synthetic models where that makes sense; "" for none.
  bool full = false;
  std::string program;  // The path of `cdna`, for the measurement of convert.
};

// Adds the rows of `cdna bench io`. Errors: those of reading the file and writing the synthetic ones; cancelled.
Result<void> run_io(const IoOptions& options, Report& report, const std::atomic<bool>& stop);

}  // namespace cdna::tools::bench
