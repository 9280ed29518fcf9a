// y = x W^T. Units are blocks, or slices of them: every row of W gives one column of y, whoever computes it.
#include <algorithm>
#include <map>

#include "libcdna/matmul/kernels.hpp"
#include "libcdna/matmul/row_dot.hpp"
#include "libcdna/matmul/team.hpp"
#include "libcdna/matmul/tile.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kUnitsPerThread = 4;  // At least, where blocks can be sliced.
constexpr std::uint64_t kSliceRows = 16;

// Consecutive rows of W: of a slice of a block, or of whole blocks; of cut rows one row.
struct Unit {
  std::size_t part = 0;
  std::uint64_t row_begin = 0;  // Of the matrix view.
  std::uint64_t row_end = 0;
};

// Blocks in the mapping can be cut into slices at no cost: nothing is copied or decoded for each.
bool can_slice(const Weights& weights) { return weights.file->zero_copy() && weights.plane->codecs() == 1; }

class Units {
 public:
  // Of at least `rows_wanted` rows, where there are enough for all threads.
  Units(const Job& job, std::uint64_t rows_wanted) : job_(&job) {
    std::uint64_t blocks = 0;
    for (const Weights& part : job.parts) blocks += block_count(part);
    const std::uint64_t wanted = job.threads == 1 ? 1 : kUnitsPerThread * job.threads;
    std::uint64_t column = 0;
    for (const Weights& part : job.parts) {
      steps_.push_back(step_of(part, blocks, wanted, rows_wanted));
      ends_.push_back(count() + unit_count(part, steps_.back()));
      columns_.push_back(column);
      column += part.rows();
    }
  }

  std::uint64_t count() const { return ends_.empty() ? 0 : ends_.back(); }
  // Column of y that row `row` of a part gives.
  std::uint64_t column(std::size_t part, std::uint64_t row) const {
    return columns_[part] + row - job_->parts[part].row_begin;
  }

  Unit operator[](std::uint64_t number) const {
    Unit unit;
    unit.part = static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), number) - ends_.begin());
    const std::uint64_t within = number - (unit.part == 0 ? 0 : ends_[unit.part - 1]);
    const Weights& part = job_->parts[unit.part];
    if (part.cut()) return {unit.part, part.row_begin + within, part.row_begin + within + 1};
    const Step step = steps_[unit.part];
    const std::uint64_t rows = part.plane->rows_per_block();
    const std::uint64_t block = part.first_block() + within / step.slices * step.blocks;
    const std::uint64_t slice = within % step.slices;
    const std::uint64_t all = rows * step.blocks;
    const auto clamp = [&](std::uint64_t row) { return std::clamp(row, part.row_begin, part.row_end); };
    unit.row_begin = clamp(block * rows + all * slice / step.slices);
    unit.row_end = clamp(block * rows + all * (slice + 1) / step.slices);
    return unit;
  }

 private:
  // A unit is `blocks` blocks, or a slice of one.
  struct Step {
    std::uint64_t blocks = 1;
    std::uint64_t slices = 1;
  };

  static std::uint64_t block_count(const Weights& part) {
    if (!part.has_blocks()) return 0;
    return part.cut() ? part.rows() : part.end_block() - part.first_block();
  }

  static std::uint64_t unit_count(const Weights& part, Step step) {
    return (block_count(part) + step.blocks - 1) / step.blocks * step.slices;
  }

  // For a part of a product with `blocks` blocks in all, of which `wanted` units are to be made.
  static Step step_of(const Weights& part, std::uint64_t blocks, std::uint64_t wanted, std::uint64_t rows_wanted) {
    Step step;
    if (!part.has_blocks() || part.cut()) return step;
    const std::uint64_t rows = part.plane->rows_per_block();
    if (blocks < wanted && can_slice(part)) {
      step.slices = std::min((wanted + blocks - 1) / blocks, std::max<std::uint64_t>(1, rows / kSliceRows));
    } else {
      step.blocks = std::clamp<std::uint64_t>(std::min((rows_wanted + rows - 1) / rows, blocks / wanted), 1,
                                              RowGroup::kBlocksMax);
    }
    return step;
  }

  const Job* job_;
  std::vector<Step> steps_;
  std::vector<std::uint64_t> ends_;  // Of the units of each part.
  std::vector<std::uint64_t> columns_;
};

// What a thread keeps from unit to unit: the reader of the part that it is at.
struct PartReader {
  std::size_t part = ~std::size_t{0};
  std::optional<WeightReader> reader;

  Result<WeightReader*> of(const Job& job, std::size_t wanted) {
    if (part != wanted) {
      reader.reset();
      reader = CDNA_TRY(WeightReader::create(job.parts[wanted], job.resident_bytes_max));
      part = wanted;
    }
    return &*reader;
  }
};

// A row that is cut: its blocks in turn.
template <class Use>
Result<void> for_pieces(const Weights& weights, WeightReader& reader, std::uint64_t row, const Use& use) {
  const std::uint64_t first = block_at(*weights.plane, row, 0);
  const std::uint64_t last = block_at(*weights.plane, row, weights.cols() - 1);
  for (std::uint64_t block = first; block <= last; ++block) {
    const Block fetched = CDNA_TRY(reader.fetch(block));
    use(RowWalk(fetched).row(0));
  }
  return {};
}

// ---- Dot products ----

class LinearDot {
 public:
  LinearDot(const Job& job, const ConstMatrix& x, std::uint64_t begin, std::uint64_t end, const Output& output)
      : job_(job), begin_(begin), rows_(end - begin), output_(output), units_(job, 1), threads_(job.threads) {
    for (const Weights& part : job.parts) {
      const cdna_order order = part.order(job.math);
      if (packed_.find(order) == packed_.end()) packed_.try_emplace(order, x, begin, end, job.math, order);
    }
  }

  Result<void> run(Team& team) {
    return team.run(units_.count(),
                    [this](std::uint64_t unit, unsigned thread) { return work(units_[unit], threads_[thread]); });
  }

  static u128 thread_bytes(const Job& job, std::uint64_t rows) {
    u128 readers = 0;
    for (const Weights& part : job.parts) readers = std::max<u128>(readers, RowGroup::scratch_bytes(part, 1));
    u128 dots = 0;
    for (const Weights& part : job.parts) dots = std::max(dots, RowDot::scratch_bytes(rows, part));
    return readers + dots + u128{kStoredRows} * rows * sizeof(float);
  }

 private:
  struct Thread {
    PartReader reader;
    std::size_t part = ~std::size_t{0};
    std::optional<RowDot> dot;
    std::vector<float> sums;  // [rows of the unit][rows of x]
  };

  Result<void> work(const Unit& unit, Thread& thread) {
    const Weights& weights = job_.parts[unit.part];
    WeightReader& reader = *CDNA_TRY(thread.reader.of(job_, unit.part));
    if (thread.part != unit.part) {
      thread.dot.emplace(job_, weights, packed_.at(weights.order(job_.math)), rows_);
      thread.part = unit.part;
    }
    if (unit.row_begin == unit.row_end) return {};
    thread.sums.resize(kStoredRows * rows_);
    return weights.cut() ? work_cut(unit, weights, reader, thread) : work_block(unit, weights, reader, thread);
  }

  Result<void> work_cut(const Unit& unit, const Weights& weights, WeightReader& reader, Thread& thread) {
    float row_scale = 1;
    thread.dot->clear();
    CDNA_TRY(for_pieces(weights, reader, unit.row_begin, [&](const WeightRow& row) {
      row_scale = row.row_scale;
      thread.dot->add(row);
    }));
    thread.dot->finish(row_scale, thread.sums.data());
    store(unit, unit.row_begin, 1, thread);
    return {};
  }

  Result<void> work_block(const Unit& unit, const Weights& weights, WeightReader& reader, Thread& thread) {
    const Block block = CDNA_TRY(reader.fetch(block_at(*weights.plane, unit.row_begin, 0)));
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

  void store(const Unit& unit, std::uint64_t first, std::uint64_t count, const Thread& thread) const {
    for (std::uint64_t i = 0; i < rows_; ++i)
      output_.store(begin_ + i, units_.column(unit.part, first), count, thread.sums.data() + i, rows_);
  }

  static constexpr std::uint64_t kStoredRows = 64;  // Rows of W whose sums are kept before they go to y.

  const Job& job_;
  std::uint64_t begin_;
  std::uint64_t rows_;
  const Output& output_;
  Units units_;
  std::map<cdna_order, PackedRows> packed_;
  std::vector<Thread> threads_;
};

// ---- Tiles ----

class LinearTiles {
 public:
  // Decoded at a time: what stays in the second-level cache beside as many columns of x.
  static Tile::Shape shape_of(std::uint64_t lanes) { return lanes <= 32 ? kLong : kTall; }
  static constexpr Tile::Shape kLong{32, 1024};
  static constexpr Tile::Shape kTall{64, 256};
  // Rows of W that each piece of x is used for before the next is brought in.
  static constexpr std::uint64_t kRows = 256;

  LinearTiles(const Job& job, const ConstMatrix& x, std::uint64_t begin, std::uint64_t end, const Output& output)
      : job_(job), x_(x), begin_(begin), end_(end), output_(output), units_(job, kRows), threads_(job.threads) {
    for (const Weights& part : job.parts) {
      const cdna_order order = part.order(job.math);
      if (packed_.find(order) == packed_.end()) packed_.try_emplace(order, end - begin, x.cols, job.math, order);
    }
    lanes_ = PackedPanels::lanes_of(end - begin);
  }

  Result<void> run(Team& team) {
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

  static u128 thread_bytes(const Job& job, std::uint64_t rows) {
    u128 readers = 0;
    for (const Weights& part : job.parts) readers = std::max<u128>(readers, RowGroup::scratch_bytes(part, kRows));
    const std::uint64_t lanes = PackedPanels::lanes_of(rows);
    return readers + Tile::scratch_bytes(shape_of(lanes)) + u128{kRows} * (lanes + 1) * sizeof(float);
  }

 private:
  struct Thread {
    std::size_t part = ~std::size_t{0};
    std::optional<RowGroup> group;
    std::optional<Tile> tile;
    std::vector<float> factors;  // [rows at a time]: Tile::factor_of
    AlignedBuffer<float> sums;   // [kRows][lanes]
  };

  Result<void> work(const Unit& unit, Thread& thread) {
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

  Result<void> work_cut(const Unit& unit, const Weights& weights, Thread& thread) {
    std::fill_n(thread.sums.data(), lanes_, 0.0F);
    const std::uint64_t last = block_at(*weights.plane, unit.row_begin, weights.cols() - 1);
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

  Result<void> work_blocks(const Unit& unit, const Weights& weights, Thread& thread) {
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
  void multiply_rows(const Weights& weights, std::span<const WeightRow> rows, Thread& thread) const {
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

  void multiply_panel(const PackedPanels& packed, const PackedPanels::Panel& panel, std::uint64_t first,
                      std::uint64_t depth, std::size_t rows, const Tile& tile, float* sums) const {
    if (job_.math == Math::bf16) {
      bf16_kernels(job_.isa).multiply(tile.bf16(), tile.stride(), rows, packed.bf16(panel, first), panel.lanes,
                                      panel.lanes, depth, sums + panel.first_lane, lanes_);
    } else {
      f32_kernels(job_.isa).multiply(tile.f32(), tile.stride(), rows, packed.f32(panel, first), panel.lanes,
                                     panel.lanes, depth, sums + panel.first_lane, lanes_);
    }
  }

  void store(const Unit& unit, std::uint64_t first, std::uint64_t count, Thread& thread) const {
    for (std::uint64_t r = 0; r < count; ++r) {
      if (thread.factors[r] == 1) continue;
      for (std::uint64_t i = 0; i < lanes_; ++i) thread.sums[r * lanes_ + i] *= thread.factors[r];
    }
    for (std::uint64_t i = 0; i < end_ - begin_; ++i)
      output_.store(begin_ + i, units_.column(unit.part, first), count, thread.sums.data() + i, lanes_);
  }

  const Job& job_;
  const ConstMatrix& x_;
  std::uint64_t begin_;
  std::uint64_t end_;
  const Output& output_;
  Units units_;
  std::uint64_t lanes_ = 0;
  std::map<cdna_order, PackedPanels> packed_;
  std::vector<Thread> threads_;
};

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
