// How much private memory `cdna convert` takes for a model much larger than that.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "cdna/error.hpp"
#include "tools/bench/sample_models.hpp"

namespace cdna::tools::bench {

inline constexpr double kConvertLimitMebibytes = 256;

struct ConvertMemory {
  std::uint64_t source_bytes = 0;
  bool completed = false;  // Within the limit.
  double mebibytes = 0;    // Largest anonymous resident memory seen; at least a MiB over the limit where it did not do.
  double seconds = 0;
};

// Converts a safetensors file of 4 GiB with `--encoding exact` in a child process under RLIMIT_DATA of
// kConvertLimitMebibytes. The file it writes takes 4 GiB of the scratch folder. Errors: io, cancelled.
Result<ConvertMemory> peak_memory_of_convert(const std::string& program, const Scratch& scratch,
                                             const std::atomic<bool>& stop);

}  // namespace cdna::tools::bench
