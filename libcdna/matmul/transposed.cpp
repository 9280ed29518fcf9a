// y = x W. Every row of W adds to all of y, so that sums are cut into chunks of rows that depend on the shape alone:
// whoever has added up a chunk adds it to y when its turn comes.
#include <algorithm>
#include <array>
#include <condition_variable>
#include <mutex>

#include "libcdna/format/float_bits.hpp"
#include "libcdna/matmul/kernels.hpp"
#include "libcdna/matmul/team.hpp"
#include "libcdna/matmul/tile.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kChunksMax = 64;
constexpr std::uint64_t kAddedRows = 4;  // That the kernel adds at a time.
// Decoded at a time. Every row that is added to a piece of y saves a trip of that piece through the caches.
constexpr Tile::Shape kTile{256, 128};

constexpr std::array<float, kTile.rows> kOnes = [] {
  std::array<float, kTile.rows> ones{};
  ones.fill(1);
  return ones;
}();

std::uint64_t chunk_rows_of(const Job& job) {
  const std::uint64_t least = job.dot ? 64 : kTile.rows;
  const std::uint64_t rows = (job.parts[0].rows() + kChunksMax - 1) / kChunksMax;
  return std::max(least, (rows + least - 1) / least * least);
}

void multiply_by(float factor, AlignedBuffer<float>& values) {
  if (factor == 1) return;
  for (std::size_t j = 0; j < values.size(); ++j) values[j] *= factor;
}

// Whether codes are added as they are and outliers correct them.
bool corrects(const Job& job) {
  const Weights& weights = job.parts[0];
  return job.dot && weights.form == WeightForm::codes && weights.outlier_dtype != DType::none;
}

class Transposed {
 public:
  Transposed(const Job& job, const ConstMatrix& x, std::uint64_t begin, std::uint64_t end, const Output& output,
             Team& team)
      : job_(job),
        weights_(job.parts[0]),
        x_(x),
        begin_(begin),
        rows_(end - begin),
        output_(output),
        team_(team),
        stride_(whole_chunks(weights_.cols())),
        order_(weights_.order(Math::f32)),
        total_(rows_ * stride_),
        threads_(job.threads) {}

  Result<void> run() {
    if (weights_.has_blocks()) {
      const std::uint64_t rows = chunk_rows_of(job_);
      const std::uint64_t chunks = (weights_.rows() + rows - 1) / rows;
      CDNA_TRY(team_.run(chunks, [&](std::uint64_t chunk, unsigned thread) { return work(chunk, threads_[thread]); }));
    }
    store();
    return {};
  }

 private:
  struct Thread {
    std::optional<RowGroup> group;
    std::optional<Tile> tile;
    std::vector<float> factors;  // [rows of x][rows of W at a time]
    std::vector<float> scaled;   // The same times the scales of the rows.
    std::vector<float> scales;   // [kAddedRows][columns / 32]
    AlignedBuffer<float> sums;   // [rows of x][stride]; of codes in the lookup's entry_unit while they are added.
    // The same of what outliers add to codes: apart, since how many rows of codes are added at a time depends on
    // blocks.
    AlignedBuffer<float> corrections;
  };

  Result<void> work(std::uint64_t chunk, Thread& thread) {
    Result<void> summed = no_throw([&] { return sum_chunk(chunk, thread); });
    // Chunks before this one are in hand: the counter has passed them.
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return next_ == chunk || failed_ < chunk; });
    if (!summed) failed_ = std::min(failed_, chunk);
    if (failed_ >= chunk && summed) {
      lock.unlock();
      for (std::size_t j = 0; j < total_.size(); ++j) total_[j] += thread.sums[j];
      lock.lock();
      ++next_;
    }
    changed_.notify_all();
    return summed;
  }

  Result<void> sum_chunk(std::uint64_t chunk, Thread& thread) {
    if (thread.sums.size() == 0) thread.sums = AlignedBuffer<float>(total_.size());
    std::fill_n(thread.sums.data(), thread.sums.size(), 0.0F);
    if (corrects(job_)) {
      if (thread.corrections.size() == 0) thread.corrections = AlignedBuffer<float>(total_.size());
      std::fill_n(thread.corrections.data(), thread.corrections.size(), 0.0F);
    }
    if (!thread.group) thread.group.emplace(weights_, kTile.rows, job_.resident_bytes_max);
    const std::uint64_t rows = chunk_rows_of(job_);
    const std::uint64_t begin = weights_.row_begin + chunk * rows;
    const std::uint64_t end = std::min(begin + rows, weights_.row_end);
    CDNA_TRY(weights_.cut() ? add_cut(begin, end, thread) : add_blocks(begin, end, thread));
    if (adds_codes()) multiply_by(weights_.lookup->entry_unit, thread.sums);
    for (std::size_t j = 0; j < thread.corrections.size(); ++j) thread.sums[j] += thread.corrections[j];
    return {};
  }

  Result<void> add_blocks(std::uint64_t begin, std::uint64_t end, Thread& thread) {
    const std::uint64_t most = std::min(kTile.rows, RowGroup::rows_max(weights_));
    for (std::uint64_t row = begin; row < end; row += most) {
      const std::uint64_t stop = std::min(end, row + most);
      add(row, CDNA_TRY(thread.group->rows(row, stop)), thread);
    }
    return {};
  }

  Result<void> add_cut(std::uint64_t begin, std::uint64_t end, Thread& thread) {
    for (std::uint64_t row = begin; row < end; ++row) {
      const std::uint64_t last = block_at(*weights_.plane, row, weights_.plane->row_entries() - 1);
      for (std::uint64_t block = block_at(*weights_.plane, row, 0); block <= last; ++block)
        add(row, CDNA_TRY(thread.group->piece(block)), thread);
    }
    return {};
  }

  bool adds_codes() const { return job_.dot && weights_.form == WeightForm::codes; }

  // Adds rows of W, of which the first has number `first`, times x.
  void add(std::uint64_t first, std::span<const WeightRow> rows, Thread& thread) {
    if (adds_codes()) return add_codes(first, rows, thread);
    read_factors(first - weights_.row_begin, rows.size(), thread);
    multiply_rows(rows, thread);
  }

  // A few rows at a time, which lie in one block.
  void add_codes(std::uint64_t first, std::span<const WeightRow> rows, Thread& thread) {
    while (!rows.empty()) {
      std::size_t count = 1;
      while (count < std::min<std::size_t>(kAddedRows, rows.size()) && rows[count].block == rows[0].block) ++count;
      read_factors(first - weights_.row_begin, count, thread);
      add_rows(rows.first(count), thread);
      rows = rows.subspan(count);
      first += count;
    }
  }

  // Columns [first, first + count) of the rows of x.
  void read_factors(std::uint64_t first, std::uint64_t count, Thread& thread) const {
    thread.factors.resize(rows_ * count);
    for (std::uint64_t i = 0; i < rows_; ++i) read_row(x_, begin_ + i, first, count, thread.factors.data() + i * count);
    if (job_.math != Math::bf16) return;
    for (float& factor : thread.factors) factor = f32_of_bf16(bf16_of_f32(factor));
  }

  void add_rows(std::span<const WeightRow> rows, Thread& thread) {
    const std::size_t count = rows.size();
    const WeightRow& first = rows[0];
    const std::uint64_t scale_stride = whole_chunks(first.entry_count) / CDNA_SCALE_COLUMNS;
    cdna_code_row codes{reinterpret_cast<const std::uint8_t*>(first.data.data()), first.entry_count, nullptr};
    if (weights_.decoder.group != 0) {
      thread.scales.resize(kAddedRows * scale_stride);
      for (std::size_t r = 0; r < count; ++r)
        fill_scales(weights_, rows[r], 0, first.entry_count, nullptr, f32_kernels(job_.isa),
                    thread.scales.data() + r * scale_stride);
      codes.scales = thread.scales.data();
    }
    thread.scaled = thread.factors;
    for (std::uint64_t i = 0; i < rows_; ++i) {
      for (std::size_t r = 0; r < count; ++r) thread.scaled[i * count + r] *= rows[r].row_scale;
    }
    f32_kernels(job_.isa).add_codes(weights_.lookup, &codes, count, first.data.size(), scale_stride,
                                    thread.scaled.data(), rows_, thread.sums.data() + first.entry_begin, stride_);
    if (corrects(job_)) add_outliers(rows, thread);  // Now that the codes are in the cache.
  }

  // What the outliers of these rows add to what their codes did.
  void add_outliers(std::span<const WeightRow> rows, Thread& thread) const {
    RowDecoder decoder = weights_.decoder;
    decoder.codebook = std::span(weights_.lookup->values).first(std::size_t{1} << decoder.bits);
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const WeightRow& row = rows[r];
      for (std::uint64_t o = row.outlier_begin; o < row.outlier_end; ++o) {
        const std::uint64_t column = row.outlier_column(o);
        const std::uint64_t group = decoder.group == 0 ? 0 : column / decoder.group;
        const float difference =
            outlier_difference(outlier_value(weights_, *row.block, o), decoder.entry(row.data, column),
                               decoder.scale(row.row_scale, row.group_scales, group));
        const std::uint64_t place = row.entry_begin + order_.position_of(column);
        for (std::uint64_t i = 0; i < rows_; ++i)
          thread.corrections[i * stride_ + place] += thread.factors[i * rows.size() + r] * difference;
      }
    }
  }

  void multiply_rows(std::span<const WeightRow> rows, Thread& thread) {
    if (!thread.tile) thread.tile.emplace(job_, weights_, false, kTile);
    const std::uint64_t entry_begin = rows[0].entry_begin;
    const std::uint64_t entry_count = rows[0].entry_count;
    thread.tile->begin(rows, kOnes);
    for (std::uint64_t first = 0; first < entry_count; first += kTile.cols) {
      const std::uint64_t columns = std::min(kTile.cols, entry_count - first);
      thread.tile->decode(first, columns);
      f32_kernels(job_.isa).multiply(thread.factors.data(), rows.size(), rows_, thread.tile->f32(),
                                     thread.tile->stride(), whole_chunks(columns), rows.size(),
                                     thread.sums.data() + entry_begin + first, stride_);
    }
  }

  void store() const {
    std::vector<float> row(weights_.cols());
    for (std::uint64_t i = 0; i < rows_; ++i) {
      for (std::uint64_t j = 0; j < row.size(); ++j) row[j] = total_[i * stride_ + order_.position_of(j)];
      output_.store(begin_ + i, 0, row.size(), row.data(), 1);
    }
  }

  const Job& job_;
  const Weights& weights_;
  const ConstMatrix& x_;
  std::uint64_t begin_;
  std::uint64_t rows_;
  const Output& output_;
  Team& team_;
  std::uint64_t stride_;
  ColumnOrder order_;
  AlignedBuffer<float> total_;
  std::vector<Thread> threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t next_ = 0;  // The chunk whose turn it is.
  std::uint64_t failed_ = ~std::uint64_t{0};
};

}  // namespace

Result<void> multiply_transposed(const Job& job, const ConstMatrix& x, std::uint64_t begin, std::uint64_t end,
                                 const Output& output, Team& team) {
  return Transposed(job, x, begin, end, output, team).run();
}

u128 transposed_scratch_bytes(const Job& job, std::uint64_t rows, unsigned threads) {
  const std::uint64_t cols = whole_chunks(job.parts[0].cols());
  const std::uint64_t scales = cols / 8 * kAddedRows;
  const std::uint64_t sums = 1 + threads * (corrects(job) ? 2 : 1);
  return u128{sums} * rows * cols * sizeof(float) + cols * sizeof(float) +
         threads * (Tile::scratch_bytes(kTile) + u128{kTile.rows} * rows * 2 * sizeof(float) + scales +
                    RowGroup::scratch_bytes(job.parts[0], kTile.rows));
}

}  // namespace cdna
