// Each row of W that a unit has, times all rows of x at once.
#include "libcdna/matmul/linear_dot.hpp"

#include <algorithm>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

// A row that is cut: its blocks in turn.
template <class Use>
Result<void> for_pieces(const Weights& weights, WeightReader& reader, std::uint64_t row, const Use& use) {
  const std::uint64_t first = block_at(*weights.plane, row, 0);
  const std::uint64_t last = block_at(*weights.plane, row, weights.plane->row_entries() - 1);
  for (std::uint64_t block = first; block <= last; ++block) {
    const Block fetched = CDNA_TRY(reader.fetch(block));
    use(RowWalk(fetched).row(0));
  }
  return {};
}

}  // namespace

LinearDot::LinearDot(const Job& job, const ConstMatrix& x, std::uint64_t begin, std::uint64_t end, const Output& output)
    : job_(job), begin_(begin), rows_(end - begin), output_(output), units_(job, 1), threads_(job.threads) {
  for (const Weights& part : job.parts) {
    const cdna_order order = part.order(job.math);
    if (packed_.find(order) == packed_.end()) packed_.try_emplace(order, x, begin, end, job.math, order);
  }
}

Result<void> LinearDot::run(Team& team) {
  return team.run(units_.count(),
                  [this](std::uint64_t unit, unsigned thread) { return work(units_[unit], threads_[thread]); });
}

u128 LinearDot::thread_bytes(const Job& job, std::uint64_t rows) {
  u128 readers = 0;
  for (const Weights& part : job.parts) readers = std::max<u128>(readers, RowGroup::scratch_bytes(part, 1));
  u128 dots = 0;
  for (const Weights& part : job.parts) dots = std::max(dots, RowDot::scratch_bytes(rows, part));
  return readers + dots + u128{kStoredRows} * rows * sizeof(float);
}

Result<void> LinearDot::work(const Unit& unit, Thread& thread) {
  const Weights& weights = job_.parts[unit.part];
  if (thread.part != unit.part) CDNA_TRY(enter(unit.part, thread));
  if (unit.row_begin == unit.row_end) return {};
  thread.sums.resize(kStoredRows * rows_);
  return weights.cut() ? work_cut(unit, weights, thread) : work_block(unit, weights, thread);
}

Result<void> LinearDot::enter(std::size_t part, Thread& thread) const {
  const Weights& weights = job_.parts[part];
  thread.part = ~std::size_t{0};
  thread.reader.reset();  // Before the next: both would be more memory than was counted.
  thread.reader = CDNA_TRY(WeightReader::create(weights, job_.resident_bytes_max));
  thread.dot.emplace(job_, weights, packed_.at(weights.order(job_.math)), rows_);
  thread.part = part;
  return {};
}

Result<void> LinearDot::work_cut(const Unit& unit, const Weights& weights, Thread& thread) {
  float row_scale = 1;
  thread.dot->clear();
  CDNA_TRY(for_pieces(weights, *thread.reader, unit.row_begin, [&](const WeightRow& row) {
    row_scale = row.row_scale;
    thread.dot->add(row);
  }));
  thread.dot->finish(row_scale, thread.sums.data());
  store(unit, unit.row_begin, 1, thread);
  return {};
}

Result<void> LinearDot::work_block(const Unit& unit, const Weights& weights, Thread& thread) {
  const Block block = CDNA_TRY(thread.reader->fetch(block_at(*weights.plane, unit.row_begin, 0)));
  RowWalk walk(block, unit.row_begin - block.row_begin);
  std::uint64_t first = unit.row_begin;
  for (std::uint64_t row = unit.row_begin; row < unit.row_end; ++row) {
    const WeightRow weight_row = walk.row(row - block.row_begin);
    thread.dot->clear();
    thread.dot->add(weight_row);
    thread.dot->finish(weight_row.row_scale, thread.sums.data() + (row - first) * rows_);
    if (row + 1 - first == kStoredRows || row + 1 == unit.row_end) {
      store(unit, first, row + 1 - first, thread);
      first = row + 1;
    }
  }
  return {};
}

void LinearDot::store(const Unit& unit, std::uint64_t first, std::uint64_t count, const Thread& thread) const {
  for (std::uint64_t i = 0; i < rows_; ++i)
    output_.store(begin_ + i, units_.column(unit.part, first), count, thread.sums.data() + i, rows_);
}

}  // namespace cdna
