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

// Consecutive rows of W that lie in one block; of cut rows one row.
struct Unit {
  std::size_t part = 0;
  std::uint64_t row_begin = 0;  // Of the matrix view.
  std::uint64_t row_end = 0;
};

// Blocks in the mapping can be cut into slices at no cost: nothing is copied or decoded for each.
bool can_slice(const Weights& weights) { return weights.file->zero_copy() && weights.plane->codecs() == 1; }

class Units {
 public:
  explicit Units(const Job& job) : job_(&job) {
    std::uint64_t blocks = 0;
    for (const Weights& part : job.parts) blocks += block_count(part);
    const std::uint64_t wanted = kUnitsPerThread * job.threads;
    const std::uint64_t slices = blocks == 0 ? 1 : std::max<std::uint64_t>(1, (wanted + blocks - 1) / blocks);
    std::uint64_t column = 0;
    for (const Weights& part : job.parts) {
      const std::uint64_t most = part.cut() ? 1 : std::max<std::uint64_t>(1, part.plane->rows_per_block() / kSliceRows);
      const bool sliced = job.threads > 1 && part.has_blocks() && !part.cut() && can_slice(part);
      slices_.push_back(sliced ? std::min(slices, most) : 1);
      ends_.push_back(count() + slices_.back() * block_count(part));
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
    const std::uint64_t slices = slices_[unit.part];
    const std::uint64_t rows = part.plane->rows_per_block();
    const std::uint64_t block = part.first_block() + within / slices;
    const std::uint64_t slice = within % slices;
    const auto clamp = [&](std::uint64_t row) { return std::clamp(row, part.row_begin, part.row_end); };
    unit.row_begin = clamp(block * rows + rows * slice / slices);
    unit.row_end = clamp(block * rows + rows * (slice + 1) / slices);
    return unit;
  }

 private:
  static std::uint64_t block_count(const Weights& part) {
    if (!part.has_blocks()) return 0;
    return part.cut() ? part.rows() : part.end_block() - part.first_block();
  }

  const Job* job_;
  std::vector<std::uint64_t> slices_;
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
      : job_(job), begin_(begin), rows_(end - begin), output_(output), units_(job), threads_(job.threads) {
    for (const Weights& part : job.parts) {
      const cdna_order order = part.order(job.math);
      if (packed_.find(order) == packed_.end()) packed_.try_emplace(order, x, begin, end, job.math, order);
    }
  }

  Result<void> run(Team& team) {
    return team.run(units_.count(),
                    [this](std::uint64_t unit, unsigned thread) { return work(units_[unit], threads_[thread]); });
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
  LinearTiles(const Job& job, const ConstMatrix& x, std::uint64_t begin, std::uint64_t end, const Output& output)
      : job_(job), x_(x), begin_(begin), end_(end), output_(output), units_(job), threads_(job.threads) {
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

 private:
  struct Thread {
    PartReader reader;
    std::size_t part = ~std::size_t{0};
    std::optional<Tile> tile;
    std::vector<WeightRow> rows;
    AlignedBuffer<float> sums;  // [Tile::kRows][lanes]
  };

  Result<void> work(const Unit& unit, Thread& thread) {
    const Weights& weights = job_.parts[unit.part];
    WeightReader& reader = *CDNA_TRY(thread.reader.of(job_, unit.part));
    if (thread.part != unit.part) {
      thread.tile.emplace(job_, weights, job_.math == Math::bf16);
      thread.part = unit.part;
    }
    if (thread.sums.size() == 0) thread.sums = AlignedBuffer<float>(Tile::kRows * lanes_);
    if (unit.row_begin == unit.row_end) return {};
    return weights.cut() ? work_cut(unit, weights, reader, thread) : work_block(unit, weights, reader, thread);
  }

  Result<void> work_cut(const Unit& unit, const Weights& weights, WeightReader& reader, Thread& thread) {
    std::fill_n(thread.sums.data(), lanes_, 0.0F);
    CDNA_TRY(for_pieces(weights, reader, unit.row_begin, [&](const WeightRow& row) {
      thread.rows.assign(1, row);
      multiply_rows(weights, thread);
    }));
    store(unit, unit.row_begin, 1, thread);
    return {};
  }

  Result<void> work_block(const Unit& unit, const Weights& weights, WeightReader& reader, Thread& thread) {
    const Block block = CDNA_TRY(reader.fetch(block_at(*weights.plane, unit.row_begin, 0)));
    RowWalk walk(block, unit.row_begin - block.row_begin);
    for (std::uint64_t row = unit.row_begin; row < unit.row_end; row += Tile::kRows) {
      const std::uint64_t count = std::min(Tile::kRows, unit.row_end - row);
      thread.rows.clear();
      for (std::uint64_t r = 0; r < count; ++r) thread.rows.push_back(walk.row(row + r - block.row_begin));
      std::fill_n(thread.sums.data(), count * lanes_, 0.0F);
      multiply_rows(weights, thread);
      store(unit, row, count, thread);
    }
    return {};
  }

  // sums += the rows that `thread` holds, times x.
  void multiply_rows(const Weights& weights, Thread& thread) const {
    const PackedPanels& packed = packed_.at(weights.order(job_.math));
    const std::uint64_t entry_begin = thread.rows[0].entry_begin;
    const std::uint64_t entry_count = thread.rows[0].entry_count;
    thread.tile->begin(thread.rows);
    for (std::uint64_t first = 0; first < entry_count; first += Tile::kCols) {
      const std::uint64_t count = std::min(Tile::kCols, entry_count - first);
      thread.tile->decode(first, count);
      for (std::uint64_t number = 0; number < packed.panel_count(); ++number)
        multiply_panel(packed, packed.panel(number), entry_begin + first, whole_chunks(count), thread);
    }
  }

  void multiply_panel(const PackedPanels& packed, const PackedPanels::Panel& panel, std::uint64_t first,
                      std::uint64_t depth, Thread& thread) const {
    float* const sums = thread.sums.data() + panel.first_lane;
    const std::size_t rows = thread.rows.size();
    if (job_.math == Math::bf16) {
      bf16_kernels(job_.isa).multiply(thread.tile->bf16(), Tile::kCols, rows, packed.bf16(panel, first), panel.lanes,
                                      panel.lanes, depth, sums, lanes_);
    } else {
      f32_kernels(job_.isa).multiply(thread.tile->f32(), Tile::kCols, rows, packed.f32(panel, first), panel.lanes,
                                     panel.lanes, depth, sums, lanes_);
    }
  }

  void store(const Unit& unit, std::uint64_t first, std::uint64_t count, const Thread& thread) const {
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

std::uint64_t linear_scratch_bytes(const Job& job, std::uint64_t rows, unsigned threads) {
  const std::uint64_t cols = job.parts.empty() ? 0 : job.parts[0].cols();
  std::vector<bool> orders(8);
  for (const Weights& part : job.parts) orders[part.order(job.math)] = true;
  const auto forms = static_cast<std::uint64_t>(std::count(orders.begin(), orders.end(), true));
  if (job.dot)
    return forms * PackedRows::bytes(rows, cols, job.math) +
           threads * (RowDot::scratch_bytes(rows, cols) + 64 * rows * sizeof(float));
  const std::uint64_t sums = Tile::kRows * PackedPanels::lanes_of(rows) * sizeof(float);
  return forms * PackedPanels::bytes(rows, cols, job.math) + threads * (Tile::scratch_bytes() + sums);
}

}  // namespace cdna
