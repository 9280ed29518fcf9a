// What the threads of y = x W^T share out: blocks, or slices of them. Every row of W gives one column of y.
#pragma once

#include <cstdint>
#include <vector>

#include "libcdna/matmul/job.hpp"

namespace cdna {

// Consecutive rows of W: of a slice of a block, or of whole blocks; of cut rows one row.
struct Unit {
  std::size_t part = 0;
  std::uint64_t row_begin = 0;  // Of the matrix view.
  std::uint64_t row_end = 0;
};

class Units {
 public:
  // Of at least `rows_wanted` rows, where there are enough for all threads.
  Units(const Job& job, std::uint64_t rows_wanted);

  std::uint64_t count() const { return ends_.empty() ? 0 : ends_.back(); }
  Unit operator[](std::uint64_t number) const;

  // Column of y that row `row` of a part gives.
  std::uint64_t column(std::size_t part, std::uint64_t row) const {
    return columns_[part] + row - job_->parts[part].row_begin;
  }

 private:
  // A unit is `blocks` blocks, or a slice of one.
  struct Step {
    std::uint64_t blocks = 1;
    std::uint64_t slices = 1;
  };

  static std::uint64_t unit_count(const Weights& part, Step step);
  static Step step_of(const Weights& part, std::uint64_t blocks, std::uint64_t wanted, std::uint64_t rows_wanted);

  const Job* job_;
  std::vector<Step> steps_;
  std::vector<std::uint64_t> ends_;  // Of the units of each part.
  std::vector<std::uint64_t> columns_;
};

}  // namespace cdna
