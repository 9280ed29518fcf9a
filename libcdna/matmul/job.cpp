// Decisions of a call: which loop, how many threads, how many rows of x at a time.
#include "libcdna/matmul/job.hpp"

#include <algorithm>
#include <string>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

u128 scratch_bytes(const Job& job, std::uint64_t rows, unsigned threads) {
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

// The most rows of x, up to m, whose buffers fit; 0: not one.
std::uint64_t rows_that_fit(const Job& job, std::uint64_t m, std::uint64_t bytes_max, unsigned threads) {
  // Of any row more than a byte is kept, and what does not fit into u128 is far beyond that.
  constexpr std::uint64_t kRowsEnd = std::uint64_t{1} << 40;
  std::uint64_t fits = 0;
  std::uint64_t end = std::min({m, bytes_max, kRowsEnd}) + 1;
  while (end - fits > 1) {
    const std::uint64_t middle = fits + (end - fits) / 2;
    (scratch_bytes(job, middle, threads) <= bytes_max ? fits : end) = middle;
  }
  return fits;
}

// So many threads, and so many rows of x at a time, that W is read the fewest times per thread.
Result<void> fit_scratch(Job& job, std::uint64_t m, std::uint64_t bytes_max) {
  m = std::max<std::uint64_t>(m, 1);
  const unsigned most = job.threads;
  std::uint64_t passes = 0;
  for (unsigned threads = most; threads > 0; --threads) {
    const std::uint64_t fits = rows_that_fit(job, m, bytes_max, threads);
    if (fits == 0) continue;
    const std::uint64_t needed = (m - 1) / fits + 1;
    if (passes == 0 || u128{needed} * job.threads < u128{passes} * threads) {
      passes = needed;
      job.threads = threads;
    }
    if (needed == 1) break;
  }
  CDNA_CHECK(
      passes != 0, Code::limit, "",
      "the buffers for one row of x do not fit into the " + std::to_string(bytes_max) + " bytes that are allowed");
  job.rows_per_pass = (m - 1) / passes + 1;  // Passes of equal size.
  job.scratch_bytes = static_cast<std::uint64_t>(scratch_bytes(job, job.rows_per_pass, job.threads));
  return {};
}

// Tiles are prepared for 16 rows of x at least, as wide as W: too much for very long rows.
bool takes_dot(const Job& job, std::uint64_t m) {
  constexpr std::uint64_t kTileColsMax = std::uint64_t{1} << 20;
  const bool wide = job.orientation == Orientation::linear && job.parts[0].cols() > kTileColsMax;
  return m <= kDotRows || job.math == Math::int8 || wide;
}

// AMX is the best that the CPU has, but may be refused by the system: then the next best, unless it was asked for.
Result<Isa> choose_isa(const MatmulOptions& options) {
  const Isa isa = options.isa.value_or(cdna::isa());
  CDNA_CHECK(is_available(isa), Code::bad_argument, "",
             std::string(name_of(isa)) + " is not available on this machine");
  if (isa != Isa::amx || options.math != Math::bf16 || allow_tiles()) return isa;
  CDNA_CHECK(!options.isa, Code::bad_argument, "", "the system does not let this process use AMX tiles");
  return Isa::avx512_bf16;
}

}  // namespace

Result<Job> Job::plan(std::span<const WeightRows> parts, std::uint64_t m, const MatmulOptions& options) {
  Job job;
  job.math = options.math;
  job.orientation = options.orientation;
  job.isa = CDNA_TRY(choose_isa(options));
  CDNA_CHECK(!parts.empty(), Code::bad_argument, "", "no tensor to multiply with");
  CDNA_CHECK(parts.size() == 1 || options.orientation == Orientation::linear, Code::bad_argument, "",
             "x W takes one tensor");
  for (const WeightRows& part : parts) CDNA_TRY(check_part(part, parts[0]));
  for (const WeightRows& part : parts) {
    job.parts.push_back(CDNA_TRY(Weights::of(part, job.math, job.orientation)));
  }
  job.dot = takes_dot(job, m);
  job.threads = options.workers == nullptr ? 1 : options.workers->concurrency();
  CDNA_TRY(fit_scratch(job, m, options.scratch_bytes_max));
  if (options.resident_bytes_max) job.resident_bytes_max = *options.resident_bytes_max / job.threads;
  return job;
}

}  // namespace cdna
