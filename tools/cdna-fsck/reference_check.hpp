// Compares a CDNA file with the model that it was made of: what it holds, and what it records about it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cdna/fsck.hpp"
#include "cdna/import.hpp"
#include "cdna/reader.hpp"

namespace cdna::tools {

struct ReferenceOptions {
  unsigned threads = 1;  // 0: one per core. A tensor is the work of one.
  const std::atomic<bool>* stop = nullptr;
  // Called now and then, by one thread at a time, with bytes of the reference done and to do.
  std::function<void(std::uint64_t, std::uint64_t)> progress;
};

struct ReferenceReport {
  std::uint64_t tensors_compared = 0;  // Under all of their names.
  std::vector<FsckProblem> problems;   // In name order, at most 100 of a tensor and 1000 in all.
  std::uint64_t problem_count = 0;
  bool operational_failure = false;  // Something could not be read.
  // One line each, in name order: tensors that this version cannot decode, figures that the file does not record.
  std::vector<std::string> notes;
};

// For each tensor, under each of its names: dtype, shape and source digest. Of an exact tensor every byte. Of one of
// codes the sums of squares and of squared errors, the bound of every block, outliers, kurtosis and entropy: computed
// again in f64 from the source and the decoded values, apart from the encoder, and compared with what is recorded
// (spec/format.md, 7.1, 9 and 13.3). A tensor that only one side has is a problem. Problems of a figure have the place
// of the index entry, where there is one. Unknown (+Inf, NaN, a digest of zeros) is no problem, but a note.
// Memory: some blocks per thread.
ReferenceReport check_reference(const Reader& reader, const Model& reference, const ReferenceOptions& options);

}  // namespace cdna::tools
