// Rows of W are decoded some hundreds at a time, and each tile of them meets all of x.
#include "libcdna/matmul/linear_tiles.hpp"

#include <algorithm>

#include "libcdna/matmul/kernels.hpp"
#include "libcdna/try.hpp"

namespace cdna {

LinearTiles::LinearTiles(const Job& job, const ConstMatrix& x, std::uint64_t begin, std::uint64_t end,
                         const Output& output)
    : job_(job), x_(x), begin_(begin), end_(end), output_(output), units_(job, kRows), threads_(job.threads) {
  for (const Weights& part : job.parts) {
    const cdna_order order = part.order(job.math);
    if (packed_.find(order) == packed_.end()) packed_.try_emplace(order, end - begin, x.cols, job.math, order);
  }
  lanes_ = PackedPanels::lanes_of(end - begin);
}

Result<void> LinearTiles::run(Team& team) {
  for (auto& [order, panels] : packed_) {
    PackedPanels& packed = panels;
    CDNA_TRY(team.run(packed.panel_count(), [&](std::uint64_t panel, unsigned) -> Result<void> {
      packed.pack(x_, begin_, end_, panel);
      return {};
    }));
  }
  return team.run(units_.count(),
                  [this](std::uint64_t unit, unsigned thread) { return work(units_[unit], threads_[thread]); });
}

u128 LinearTiles::thread_bytes(const Job& job, std::uint64_t rows) {
  u128 readers = 0;
  for (const Weights& part : job.parts) readers = std::max<u128>(readers, RowGroup::scratch_bytes(part, kRows));
  const std::uint64_t lanes = PackedPanels::lanes_of(rows);
  return readers + Tile::scratch_bytes(shape_of(lanes)) + u128{kRows} * (lanes + 1) * sizeof(float);
}

Result<void> LinearTiles::work(const Unit& unit, Thread& thread) {
  const Weights& weights = job_.parts[unit.part];
  if (thread.part != unit.part) {
    thread.group.emplace(weights, kRows, job_.resident_bytes_max);
    thread.tile.emplace(job_, weights, job_.math == Math::bf16, shape_of(lanes_));
    thread.part = unit.part;
  }
  if (thread.sums.size() == 0) thread.sums = AlignedBuffer<float>(kRows * lanes_);
  if (unit.row_begin == unit.row_end) return {};
  return weights.cut() ? work_cut(unit, weights, thread) : work_blocks(unit, weights, thread);
}

Result<void> LinearTiles::work_cut(const Unit& unit, const Weights& weights, Thread& thread) {
  std::fill_n(thread.sums.data(), lanes_, 0.0F);
  const std::uint64_t last = block_at(*weights.plane, unit.row_begin, weights.plane->row_entries() - 1);
  const std::uint64_t first = block_at(*weights.plane, unit.row_begin, 0);
  thread.factors.assign(1, 1);
  // The row's factor is that of its first piece, unless another piece cannot have it.
  for (std::uint64_t block = first; block <= last; ++block) {
    thread.factors[0] = thread.tile->factor_of(CDNA_TRY(thread.group->piece(block))[0]);
    if (thread.factors[0] == 1 || weights.outlier_dtype == DType::none) break;
  }
  for (std::uint64_t block = first; block <= last; ++block)
    multiply_rows(weights, CDNA_TRY(thread.group->piece(block)), thread);
  store(unit, unit.row_begin, 1, thread);
  return {};
}

Result<void> LinearTiles::work_blocks(const Unit& unit, const Weights& weights, Thread& thread) {
  const std::uint64_t most = std::min(kRows, RowGroup::rows_max(weights));
  for (std::uint64_t row = unit.row_begin; row < unit.row_end; row += most) {
    const std::uint64_t count = std::min(most, unit.row_end - row);
    const std::span<const WeightRow> rows = CDNA_TRY(thread.group->rows(row, row + count));
    std::fill_n(thread.sums.data(), count * lanes_, 0.0F);
    thread.factors.clear();
    for (const WeightRow& weight_row : rows) thread.factors.push_back(thread.tile->factor_of(weight_row));
    multiply_rows(weights, rows, thread);
    store(unit, row, count, thread);
  }
  return {};
}

// sums += rows of W times x.
void LinearTiles::multiply_rows(const Weights& weights, std::span<const WeightRow> rows, Thread& thread) const {
  const PackedPanels& packed = packed_.at(weights.order(job_.math));
  const std::uint64_t entry_begin = rows[0].entry_begin;
  const std::uint64_t entry_count = rows[0].entry_count;
  const Tile::Shape shape = shape_of(lanes_);
  for (std::uint64_t first = 0; first < entry_count; first += shape.cols) {
    const std::uint64_t count = std::min(shape.cols, entry_count - first);
    for (std::size_t r = 0; r < rows.size(); r += shape.rows) {
      const std::span<const WeightRow> some = rows.subspan(r, std::min(shape.rows, rows.size() - r));
      thread.tile->begin(some, std::span(thread.factors).subspan(r, some.size()));
      thread.tile->decode(first, count);
      for (std::uint64_t number = 0; number < packed.panel_count(); ++number)
        multiply_panel(packed, packed.panel(number), entry_begin + first, whole_chunks(count), some.size(),
                       *thread.tile, thread.sums.data() + r * lanes_);
    }
  }
}

void LinearTiles::multiply_panel(const PackedPanels& packed, const PackedPanels::Panel& panel, std::uint64_t first,
                                 std::uint64_t depth, std::size_t rows, const Tile& tile, float* sums) const {
  if (job_.math == Math::bf16) {
    bf16_kernels(job_.isa).multiply(tile.bf16(), tile.stride(), rows, packed.bf16(panel, first), panel.lanes,
                                    panel.lanes, depth, sums + panel.first_lane, lanes_);
  } else {
    f32_kernels(job_.isa).multiply(tile.f32(), tile.stride(), rows, packed.f32(panel, first), panel.lanes, panel.lanes,
                                   depth, sums + panel.first_lane, lanes_);
  }
}

void LinearTiles::store(const Unit& unit, std::uint64_t first, std::uint64_t count, Thread& thread) const {
  for (std::uint64_t r = 0; r < count; ++r) {
    if (thread.factors[r] == 1) continue;
    for (std::uint64_t i = 0; i < lanes_; ++i) thread.sums[r * lanes_ + i] *= thread.factors[r];
  }
  for (std::uint64_t i = 0; i < end_ - begin_; ++i)
    output_.store(begin_ + i, units_.column(unit.part, first), count, thread.sums.data() + i, lanes_);
}

}  // namespace cdna
