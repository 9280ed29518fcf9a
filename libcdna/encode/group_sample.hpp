// A sample of a tensor's groups, on which codebook and group scales are fitted in turn.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "libcdna/encode/tensor_fit.hpp"

namespace cdna {

class GroupSample {
 public:
  GroupSample(const CodebookOptions& options, float outlier_bound) : options_(options), outlier_bound_(outlier_bound) {}

  // About 2^19 values: one row out of each of as many equal parts of the tensor, at a place in it that is as good as
  // random; of very long rows, groups in the same way.
  Result<void> read(const TensorRows& rows, ThreadPool& pool);
  // Three codebooks, each for the scales that were best with the one before; at first each group's largest magnitude.
  Result<FittedCodebook> fit(ThreadPool& pool) const;

 private:
  // Groups of a row; all whole but for the last. Where outliers were taken out, a run is one group.
  struct Run {
    std::size_t begin = 0;  // In values.
    std::size_t count = 0;
    double row_weight = 0;  // Square of the row's scale: what the squared error of a scaled value counts.
  };
  // A fixed number of parts, whatever the number of threads: the order of sums depends on it.
  static constexpr std::size_t kParts = 8;
  struct Part {
    std::vector<float> values;  // Scaled to their rows' largest magnitudes; without outliers.
    std::vector<Run> runs;
  };

  Result<void> read_row(const TensorRows& rows, std::uint64_t row, std::uint64_t stride, Part& part) const;
  void append_group(std::span<const float> values, float rms, float scale, Part& part) const;
  WeightHistogram count(const Part& part, const cdna_codebook* codebook) const;

  CodebookOptions options_;
  float outlier_bound_;
  std::array<Part, kParts> parts_;
};

}  // namespace cdna
