// y = x W. Every row of W adds to all of y, so that sums are cut into chunks of rows that depend on the shape alone:
// whoever has added up a chunk adds it to y when its turn comes.
#include <algorithm>
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
constexpr std::uint64_t kChunkRowsMin = 64;
constexpr std::uint64_t kAddedRows = 4;  // That the kernel adds at a time.

std::uint64_t chunk_rows_of(const Weights& weights) {
  const std::uint64_t rows = (weights.rows() + kChunksMax - 1) / kChunksMax;
  return std::max(kChunkRowsMin, (rows + kChunkRowsMin - 1) / kChunkRowsMin * kChunkRowsMin);
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
      const std::uint64_t rows = chunk_rows_of(weights_);
      const std::uint64_t chunks = (weights_.rows() + rows - 1) / rows;
      CDNA_TRY(team_.run(chunks, [&](std::uint64_t chunk, unsigned thread) { return work(chunk, threads_[thread]); }));
    }
    store();
    return {};
  }

 private:
  struct Thread {
    std::optional<WeightReader> reader;
    std::optional<Tile> tile;
    std::vector<WeightRow> rows;
    std::vector<float> factors;  // [rows of x][rows of W at a time]
    std::vector<float> scaled;   // The same times the scales of the rows.
    std::vector<float> scales;   // [kAddedRows][columns / 32]
    AlignedBuffer<float> sums;   // [rows of x][stride]
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
    if (!thread.reader) thread.reader = CDNA_TRY(WeightReader::create(weights_, job_.resident_bytes_max));
    const std::uint64_t rows = chunk_rows_of(weights_);
    const std::uint64_t begin = weights_.row_begin + chunk * rows;
    const std::uint64_t end = std::min(begin + rows, weights_.row_end);
    const std::uint64_t last = block_at(*weights_.plane, end - 1, weights_.cols() - 1);
    for (std::uint64_t number = block_at(*weights_.plane, begin, 0); number <= last; ++number) {
      const Block block = CDNA_TRY(thread.reader->fetch(number));
      add_block(block, std::max(begin, block.row_begin), std::min(end, block.row_begin + block.row_count), thread);
    }
    return {};
  }

  void add_block(const Block& block, std::uint64_t begin, std::uint64_t end, Thread& thread) {
    const bool added = job_.dot && weights_.form == WeightForm::codes;
    const std::uint64_t at_a_time = added ? kAddedRows : Tile::kRows;
    RowWalk walk(block, begin - block.row_begin);
    for (std::uint64_t row = begin; row < end; row += at_a_time) {
      const std::uint64_t count = std::min(at_a_time, end - row);
      thread.rows.clear();
      for (std::uint64_t r = 0; r < count; ++r) thread.rows.push_back(walk.row(row + r - block.row_begin));
      read_factors(row - weights_.row_begin, count, thread);
      if (added) {
        add_rows(thread);
      } else {
        multiply_rows(thread);
      }
    }
  }

  // Columns [first, first + count) of the rows of x.
  void read_factors(std::uint64_t first, std::uint64_t count, Thread& thread) const {
    thread.factors.resize(rows_ * count);
    for (std::uint64_t i = 0; i < rows_; ++i) read_row(x_, begin_ + i, first, count, thread.factors.data() + i * count);
    if (job_.math != Math::bf16) return;
    for (float& factor : thread.factors) factor = f32_of_bf16(bf16_of_f32(factor));
  }

  void add_rows(Thread& thread) {
    const std::size_t count = thread.rows.size();
    const WeightRow& first = thread.rows[0];
    const std::uint64_t scale_stride = whole_chunks(first.entry_count) / CDNA_SCALE_COLUMNS;
    cdna_code_row codes{reinterpret_cast<const std::uint8_t*>(first.data.data()), first.entry_count, nullptr};
    if (weights_.decoder.group != 0) {
      thread.scales.resize(kAddedRows * scale_stride);
      for (std::size_t r = 0; r < count; ++r)
        fill_scales(weights_, thread.rows[r], 0, first.entry_count, nullptr, f32_kernels(job_.isa),
                    thread.scales.data() + r * scale_stride);
      codes.scales = thread.scales.data();
    }
    thread.scaled = thread.factors;
    for (std::uint64_t i = 0; i < rows_; ++i) {
      for (std::size_t r = 0; r < count; ++r) thread.scaled[i * count + r] *= thread.rows[r].row_scale;
    }
    f32_kernels(job_.isa).add_codes(weights_.lookup, &codes, count, first.data.size(), scale_stride,
                                    thread.scaled.data(), rows_, thread.sums.data() + first.entry_begin, stride_);
    add_outliers(thread);  // Now that the codes are in the cache.
  }

  // What the outliers of these rows add to what their codes did.
  void add_outliers(Thread& thread) const {
    RowDecoder decoder = weights_.decoder;
    decoder.codebook = std::span(weights_.lookup->values).first(std::size_t{1} << decoder.bits);
    for (std::size_t r = 0; r < thread.rows.size(); ++r) {
      const WeightRow& row = thread.rows[r];
      for (std::uint64_t o = row.outlier_begin; o < row.outlier_end; ++o) {
        const std::uint64_t column = row.outlier_column(o);
        const std::uint64_t group = decoder.group == 0 ? 0 : column / decoder.group;
        const float used = decoder.value(row.data, column, decoder.scale(row.row_scale, row.group_scales, group));
        const float difference = outlier_value(weights_, *row.block, o) - used;
        const std::uint64_t place = row.entry_begin + order_.position_of(column);
        for (std::uint64_t i = 0; i < rows_; ++i)
          thread.sums[i * stride_ + place] += thread.factors[i * thread.rows.size() + r] * difference;
      }
    }
  }

  void multiply_rows(Thread& thread) {
    if (!thread.tile) thread.tile.emplace(job_, weights_, false);
    const std::size_t count = thread.rows.size();
    const std::uint64_t entry_begin = thread.rows[0].entry_begin;
    const std::uint64_t entry_count = thread.rows[0].entry_count;
    thread.tile->begin(thread.rows);
    for (std::uint64_t first = 0; first < entry_count; first += Tile::kCols) {
      const std::uint64_t columns = std::min(Tile::kCols, entry_count - first);
      thread.tile->decode(first, columns);
      f32_kernels(job_.isa).multiply(thread.factors.data(), count, rows_, thread.tile->f32(), Tile::kCols,
                                     whole_chunks(columns), count, thread.sums.data() + entry_begin + first, stride_);
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

std::uint64_t transposed_scratch_bytes(const Job& job, std::uint64_t rows, unsigned threads) {
  const std::uint64_t cols = whole_chunks(job.parts[0].cols());
  const std::uint64_t scales = std::min(cols, whole_chunks(kCutEntries)) / 8 * kAddedRows;
  return (threads + 1) * rows * cols * sizeof(float) + cols * sizeof(float) +
         threads * (Tile::scratch_bytes() + Tile::kRows * rows * sizeof(float) + scales);
}

}  // namespace cdna
