// Speed of the compressor: GB of source per second, for each instruction set, and of whole conversions.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "tools/bench/report.hpp"

namespace cdna::tools::bench {

struct EncodeOptions {
  std::vector<std::string> cases;  // Of `cdna bench encode`; empty: all.
  std::uint64_t rows = 4096;
  std::uint64_t cols = 4096;
  std::string program;  // The path of `cdna`: it is run again for each instruction set.
};

// Names of all cases.
std::vector<std::string> encode_cases();

// Adds the rows of the cases. Errors: bad_argument (a case that is not known); those of encoding and writing;
// cancelled. Goals are those of 4096 x 4096.
Result<void> run_encode(const EncodeOptions& options, Report& report, const std::atomic<bool>& stop);

// Prints the figures of one case, one per line, measured in this process. Errors: as above.
Result<void> print_samples(const EncodeOptions& options, const std::string& name);

}  // namespace cdna::tools::bench
