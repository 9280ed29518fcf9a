// Error against size: presets beside other quantisers, on synthetic weights.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/preset.hpp"
#include "tools/bench/report.hpp"

namespace cdna::tools::bench {

struct QualityCase {
  std::string name;  // As it was asked for.
  CodebookOptions codebook;
};

struct QualityOptions {
  std::vector<QualityCase> cases;
  std::uint64_t rows = 4096;
  std::uint64_t cols = 4096;
};

// The cases of presets, written as parse_preset() takes them; of none, of all that compress with an error. Errors:
// bad_argument (which preset).
Result<std::vector<QualityCase>> quality_cases(const std::vector<std::string>& presets);

// Adds two rows for each source and encoding of `cdna bench quality`: dB, which has the size among its parameters, and
// bits per weight. Goals are those of 4096 x 4096. Errors: those of encode(); cancelled. Throws std::runtime_error
// where a preset's recorded error is not that of its decoded values.
Result<void> run_quality(const QualityOptions& options, Report& report, const std::atomic<bool>& stop);

}  // namespace cdna::tools::bench
