// Decisions of a call: which loop, how many threads, how many rows of x at a time.
#include "libcdna/matmul/job.hpp"

#include <algorithm>
#include <string>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

std::uint64_t scratch_bytes(const Job& job, std::uint64_t rows, unsigned threads) {
  return job.orientation == Orientation::linear ? linear_scratch_bytes(job, rows, threads)
                                                : transposed_scratch_bytes(job, rows, threads);
}

Result<void> check_part(const WeightRows& part, const WeightRows& first) {
  CDNA_CHECK(part.row_begin <= part.row_end && part.row_end <= part.tensor.rows(), Code::bad_argument, "",
             "rows " + std::to_string(part.row_begin) + " to " + std::to_string(part.row_end) + " of a tensor of " +
                 std::to_string(part.tensor.rows()));
  CDNA_CHECK(part.tensor.cols() == first.tensor.cols(), Code::bad_argument, "",
             "tensors of " + std::to_string(first.tensor.cols()) + " and " + std::to_string(part.tensor.cols()) +
                 " columns cannot be multiplied in one call");
  return {};
}

// The most threads, and then the most rows of x, whose buffers fit.
Result<void> fit_scratch(Job& job, std::uint64_t m, std::uint64_t bytes_max) {
  while (job.threads > 1 && scratch_bytes(job, 1, job.threads) > bytes_max) --job.threads;
  CDNA_CHECK(scratch_bytes(job, 1, job.threads) <= bytes_max, Code::limit, "",
             "one row of x needs " + std::to_string(scratch_bytes(job, 1, 1)) + " bytes of buffers, and " +
                 std::to_string(bytes_max) + " are allowed");
  std::uint64_t fits = 1;
  std::uint64_t end = std::max<std::uint64_t>(m, 1) + 1;  // Too many, or more than there are.
  while (end - fits > 1) {
    const std::uint64_t middle = fits + (end - fits) / 2;
    (scratch_bytes(job, middle, job.threads) <= bytes_max ? fits : end) = middle;
  }
  // Passes of equal size.
  const std::uint64_t passes = (std::max<std::uint64_t>(m, 1) + fits - 1) / fits;
  job.rows_per_pass = (std::max<std::uint64_t>(m, 1) + passes - 1) / passes;
  job.scratch_bytes = scratch_bytes(job, job.rows_per_pass, job.threads);
  return {};
}

}  // namespace

Result<Job> Job::plan(std::span<const WeightRows> parts, std::uint64_t m, const MatmulOptions& options) {
  Job job;
  job.math = options.math;
  job.orientation = options.orientation;
  job.isa = options.isa.value_or(cdna::isa());
  CDNA_CHECK(is_available(job.isa), Code::bad_argument, "",
             std::string(name_of(job.isa)) + " is not available on this machine");
  CDNA_CHECK(!parts.empty(), Code::bad_argument, "", "no tensor to multiply with");
  CDNA_CHECK(parts.size() == 1 || options.orientation == Orientation::linear, Code::bad_argument, "",
             "x W takes one tensor");
  for (const WeightRows& part : parts) {
    CDNA_TRY(check_part(part, parts[0]));
    job.parts.push_back(CDNA_TRY(Weights::of(part, job.math, job.orientation)));
  }
  job.dot = m <= kDotRows || job.math == Math::int8;
  job.threads = options.workers == nullptr ? 1 : options.workers->concurrency();
  CDNA_TRY(fit_scratch(job, m, options.scratch_bytes_max));
  if (options.resident_bytes_max) job.resident_bytes_max = *options.resident_bytes_max / job.threads;
  return job;
}

}  // namespace cdna
