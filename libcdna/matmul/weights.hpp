// A tensor's rows as matmul() sees them: what form they have, which kernels take them, and a reader for each thread.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "cdna/matmul.hpp"
#include "libcdna/block_reader.hpp"
#include "libcdna/decode/codebook.hpp"
#include "libcdna/decode/lookup.hpp"
#include "libcdna/format/float_bits.hpp"

namespace cdna {

enum class WeightForm : std::uint8_t {
  codes,    // At most 8 bits, entries finite, RowDecoder::is_plain(): kernels look them up. Small floats, too.
  values,   // Exact F16, BF16, F32, F64: widened, a piece of a row at a time.
  decoded,  // Any other codebook: RowDecoder makes f32 of a piece of a row at a time.
};

// The rows of one part of the product. Of `codes`, w is about table entry * group scale * row scale.
struct Weights {
  const File* file = nullptr;
  std::uint32_t item = 0;
  const wire::Plane* plane = nullptr;  // The first: codes or elements.
  MatrixView matrix;
  std::uint64_t row_begin = 0;
  std::uint64_t row_end = 0;
  std::uint64_t reader_bytes = 0;  // Private memory of one reader of these rows.

  WeightForm form = WeightForm::values;
  DType dtype = DType::none;                      // Of `values`.
  RowDecoder decoder;                             // Of `codes` and `decoded`.
  const cdna_lookup* lookup = nullptr;            // Of `codes`.
  const cdna_lookup* scale_lookup = nullptr;      // Of U8 group scales.
  std::unique_ptr<const cdna_lookup> own_lookup;  // Where the file has none that would do.
  DType outlier_dtype = DType::none;              // none: no outliers.

  std::uint64_t rows() const { return row_end - row_begin; }
  std::uint64_t cols() const { return matrix.cols; }
  bool has_blocks() const { return rows() != 0 && cols() != 0; }
  // Long rows are cut: a block is a piece of one row.
  bool cut() const { return plane->rows_per_block() == 0; }
  // The most columns that a row of a block has. (Rows that are not cut may have more than kCutEntries.)
  std::uint64_t piece_cols() const { return cut() ? std::min(cols(), kCutEntries * plane->vector()) : cols(); }
  std::uint64_t first_block() const { return block_at(*plane, row_begin, 0); }
  std::uint64_t end_block() const { return block_at(*plane, row_end - 1, plane->row_entries() - 1) + 1; }

  // The order in which kernels of `math` take the columns of a chunk. (bf16 transposed is made by those of f32.)
  cdna_order order(Math math) const;

  // Errors: unsupported, and those of reading index and codebook.
  static Result<Weights> of(const WeightRows& part, Math math, Orientation orientation);

  // What `decoder` needs beyond the codebook, and only rows that are read do. Errors: those of reading the planes.
  Result<void> load_finish_tables();
};

// One row of a block: what kernels need of it.
struct WeightRow {
  std::span<const std::byte> data;           // Codes or elements.
  std::span<const std::byte> group_scales;   // In the plane's dtype.
  std::span<const std::byte> group_offsets;  // In theirs.
  std::span<const float> low_rank_left;      // [rank]
  float row_scale = 1;
  std::uint64_t entry_begin = 0;  // Of the piece, in columns.
  std::uint64_t entry_count = 0;
  // Outliers of the row: [begin, end) of the block's.
  std::uint64_t outlier_begin = 0;
  std::uint64_t outlier_end = 0;
  const Block* block = nullptr;
  std::uint64_t position = 0;  // Of its first code, counted as outlier positions are.

  // Within the piece, also if somebody rewrites the file meanwhile.
  std::uint64_t outlier_column(std::uint64_t i) const {
    const std::uint64_t column = load<std::uint32_t>(block->outlier_positions.subspan(4 * i)) - position;
    return std::min(column, entry_count - 1);
  }
  // The first outlier of the row at or behind a column.
  std::uint64_t first_outlier_from(std::uint64_t column) const;
};

// Walks the rows of a block in ascending order.
class RowWalk {
 public:
  explicit RowWalk(const Block& block, std::uint64_t first_row = 0);
  // Row `row` of the block, counted from its first. Requires: not before the one asked for last.
  WeightRow row(std::uint64_t row);

 private:
  const Block* block_;
  std::uint64_t row_bytes_;
  std::uint64_t scale_bytes_;  // Per row, as the next.
  std::uint64_t offset_bytes_;
  std::uint64_t rank_;
  std::uint64_t next_outlier_ = 0;
};

// One thread's access to the blocks of a part, with the memory limit that was asked for.
class WeightReader {
 public:
  static Result<WeightReader> create(const Weights& weights, std::optional<std::uint64_t> resident_bytes_max);
  // Valid until the next fetch.
  Result<Block> fetch(std::uint64_t block);

 private:
  explicit WeightReader(std::unique_ptr<BlockReader> reader) : reader_(std::move(reader)) {}

  std::unique_ptr<BlockReader> reader_;
  std::optional<std::uint64_t> resident_bytes_max_;
  std::uint64_t resident_bytes_ = 0;
  std::uint64_t side_bytes_ = 0;         // That come with a block.
  std::vector<std::uint64_t> resident_;  // Blocks whose pages may be in memory.
  const wire::IndexEntry* entries_ = nullptr;
};

// Rows of several blocks at a time, each block with a reader of its own, so that all stay valid.
class RowGroup {
 public:
  static constexpr std::uint64_t kBlocksMax = 16;

  // No more rows than this, all of a part, can be had at a time; of cut rows one piece.
  static std::uint64_t rows_max(const Weights& weights);
  // What the readers for so many rows hold in private memory: blocks that are not used in place. (Not the codecs' own
  // state.)
  static std::uint64_t scratch_bytes(const Weights& weights, std::uint64_t rows);

  // For at most `rows` rows at a time. The readers share the limit of pages.
  RowGroup(const Weights& weights, std::uint64_t rows, std::optional<std::uint64_t> resident_bytes_max);

  // Rows [begin, end), of at most kBlocksMax blocks. Valid until the next call.
  Result<std::span<const WeightRow>> rows(std::uint64_t begin, std::uint64_t end);
  // A piece of a cut row, by the number of its block.
  Result<std::span<const WeightRow>> piece(std::uint64_t block);

 private:
  static std::uint64_t slot_count(const Weights& weights, std::uint64_t rows);
  Result<const Block*> fetch(std::uint64_t block);

  const Weights* weights_;
  std::uint64_t slots_;
  std::optional<std::uint64_t> resident_bytes_max_;  // Of each reader.
  // Of block i: i modulo slots_, so that a block asked for again is still there.
  std::array<std::unique_ptr<WeightReader>, kBlocksMax> readers_;
  std::array<Block, kBlocksMax> blocks_;
  std::vector<WeightRow> rows_;
};

// The value of outlier `i` of a block.
inline float outlier_value(const Weights& weights, const Block& block, std::uint64_t i) {
  const std::span<const std::byte> values = block.outlier_values;
  switch (weights.outlier_dtype) {
    case DType::f16:
      return f32_of_f16(load<std::uint16_t>(values.subspan(2 * i)));
    case DType::bf16:
      return f32_of_bf16(load<std::uint16_t>(values.subspan(2 * i)));
    case DType::f64:
      return f32_of_f64(load<double>(values.subspan(8 * i)));
    default:
      return load<float>(values.subspan(4 * i));
  }
}

// scales[j] = those of columns 32 j ... of columns [begin, begin + count) of a row of `codes`, up to a whole chunk: the
// group scale, with `row_scale` RN(group * row). begin is a multiple of CDNA_CHUNK.
void fill_scales(const Weights& weights, const WeightRow& row, std::uint64_t begin, std::uint64_t count,
                 const float* row_scale, const cdna_f32_kernels& kernels, float* scales);

// out[j] = w of columns [begin, begin + count) of a row, in natural order: of `values` and `decoded`. begin is a
// multiple of 64.
void widen_piece(const Weights& weights, const WeightRow& row, std::uint64_t begin, std::uint64_t count, float* out);

}  // namespace cdna
