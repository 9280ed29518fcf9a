// One call of matmul(): its operands, and how it was decided to do it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cdna/matmul.hpp"
#include "libcdna/matmul/weights.hpp"

namespace cdna {

// Rows of x that are multiplied by dot products, straight from the codes; more of them by tiles of decoded rows.
inline constexpr std::uint64_t kDotRows = CDNA_DOT_ROWS_MAX;

struct Job {
  std::vector<Weights> parts;
  Math math = Math::f32;
  Orientation orientation = Orientation::linear;
  Isa isa = Isa::baseline;
  bool dot = false;
  std::optional<std::uint64_t> resident_bytes_max;  // Of each thread.
  unsigned threads = 1;
  std::uint64_t rows_per_pass = 0;  // Of x; W is read once per pass.
  std::uint64_t scratch_bytes = 0;

  // Errors: bad_argument, unsupported, limit, and those of reading index and codebook.
  static Result<Job> plan(std::span<const WeightRows> parts, std::uint64_t m, const MatmulOptions& options);
};

// y rows [begin, end) = x rows [begin, end) W^T.
class Output;
class Team;
Result<void> multiply_linear(const Job& job, const ConstMatrix& x, std::uint64_t begin, std::uint64_t end,
                             const Output& output, Team& team);
u128 linear_scratch_bytes(const Job& job, std::uint64_t rows, unsigned threads);

// y rows [begin, end) = x rows [begin, end) W.
Result<void> multiply_transposed(const Job& job, const ConstMatrix& x, std::uint64_t begin, std::uint64_t end,
                                 const Output& output, Team& team);
u128 transposed_scratch_bytes(const Job& job, std::uint64_t rows, unsigned threads);

}  // namespace cdna
