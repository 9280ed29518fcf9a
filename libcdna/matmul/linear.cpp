// y = x W^T: by dot products or by tiles, and what either takes.
#include <algorithm>
#include <vector>

#include "libcdna/matmul/linear_dot.hpp"
#include "libcdna/matmul/linear_tiles.hpp"

namespace cdna {
namespace {

// Columns of y that no block gives: those of a W without columns.
void store_empty_sums(const Job& job, std::uint64_t begin, std::uint64_t end, const Output& output) {
  constexpr float kZero = 0;
  std::uint64_t column = 0;
  for (const Weights& part : job.parts) {
    for (std::uint64_t i = begin; i < end && part.cols() == 0; ++i) output.store(i, column, part.rows(), &kZero, 0);
    column += part.rows();
  }
}

}  // namespace

Result<void> multiply_linear(const Job& job, const ConstMatrix& x, std::uint64_t begin, std::uint64_t end,
                             const Output& output, Team& team) {
  store_empty_sums(job, begin, end, output);
  if (job.dot) return LinearDot(job, x, begin, end, output).run(team);
  return LinearTiles(job, x, begin, end, output).run(team);
}

u128 linear_scratch_bytes(const Job& job, std::uint64_t rows, unsigned threads) {
  const std::uint64_t cols = job.parts.empty() ? 0 : job.parts[0].cols();
  std::vector<bool> orders(8);
  for (const Weights& part : job.parts) orders[part.order(job.math)] = true;
  const auto forms = static_cast<std::uint64_t>(std::count(orders.begin(), orders.end(), true));
  if (job.dot) return forms * PackedRows::bytes(rows, cols, job.math) + threads * LinearDot::thread_bytes(job, rows);
  return forms * PackedPanels::bytes(rows, cols, job.math) + threads * LinearTiles::thread_bytes(job, rows);
}

}  // namespace cdna
