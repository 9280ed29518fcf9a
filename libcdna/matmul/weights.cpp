// What matmul() needs to know of a tensor, and the parts of its blocks.
#include "libcdna/matmul/weights.hpp"

#include <algorithm>
#include <string>

#include "libcdna/encode/value_rows.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/format/float_bits.hpp"
#include "libcdna/format/small_floats.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

Error unsupported(const Weights& weights, std::string message) {
  return weights.file->placed(fail(Code::unsupported, "", std::move(message)), weights.item);
}

void use_own_lookup(Weights& weights, std::span<const float> entries, Entries rounding) {
  weights.own_lookup = make_lookup(entries, rounding);
  weights.lookup = weights.own_lookup.get();
}

Result<void> describe_codebook(Weights& weights, const ItemView& view, Entries rounding) {
  const CodebookTables& tables = *CDNA_TRY(weights.file->tables(weights.item));
  weights.decoder = RowDecoder::of(view, tables);
  if (const wire::Plane* const outliers = find_plane(view, kOutliers))
    weights.outlier_dtype = static_cast<DType>(outliers->dtype());
  const bool nonfinite = (view.item->optional_features() & kOptionalNonfinite) != 0;
  const bool fits =
      weights.decoder.bits <= 8 && weights.decoder.is_plain() && !nonfinite && all_finite(tables.codebook);
  weights.form = fits ? WeightForm::codes : WeightForm::decoded;
  if (!fits) return {};
  weights.lookup = tables.lookup.get();
  weights.scale_lookup = tables.scale_lookup.get();
  if (rounding == Entries::rounded_to_bf16) use_own_lookup(weights, tables.codebook, rounding);
  return {};
}

// The buffers of a BlockReader: the largest block of each plane as it is stored, where it is not used in place, and
// decoded; side planes once more, as they are put together for a block.
Result<std::uint64_t> bytes_of_reader(const Weights& weights, const ItemView& view) {
  if (!weights.has_blocks()) return std::uint64_t{0};
  std::uint64_t bytes = 0;
  for (std::uint32_t number = 0; number < view.planes.size(); ++number) {
    const wire::Plane& plane = view.planes[number];
    if ((plane.role() & kIgnorableRole) != 0 || plane.scope() == kWhole) continue;
    const TouchedPlane touched = CDNA_TRY(weights.file->touch(weights.item, number));
    const PlaneBlocks& blocks = touched.blocks();
    bytes += blocks.decoded_bytes_max + (weights.file->zero_copy() ? 0 : blocks.stored_bytes_max);
    if (number == 0 || plane.scope() != kRows) continue;
    const BlockPlace place = block_place(view.planes[0], weights.matrix, 0);
    const std::uint64_t group = std::max<std::uint64_t>(1, plane.group());
    const std::uint64_t groups = (place.entry_count * weights.plane->vector() + group - 1) / group;
    const std::uint64_t entries = plane.group() == 0 ? plane.row_entries() : groups;  // Of scales, left: all.
    bytes += place.row_count * entries * (plane.bits() / 8);
  }
  return bytes;
}

Result<void> describe_exact(Weights& weights, Entries rounding) {
  if (is_float(weights.dtype)) {
    weights.form = WeightForm::values;
    return {};
  }
  if (!is_small_float(weights.dtype))
    return unsupported(weights, "a tensor of " + std::string(name_of(weights.dtype)) + " is not made of floats");
  weights.form = WeightForm::codes;
  weights.decoder = RowDecoder::of(weights.dtype);
  use_own_lookup(weights, weights.decoder.codebook, rounding);
  return {};
}

}  // namespace

Result<Weights> Weights::of(const WeightRows& part, Math math, Orientation orientation) {
  Weights weights;
  weights.file = &file_of(part.tensor);
  weights.item = part.tensor.number();
  CDNA_TRY(part.tensor.check_supported());
  const ItemView view = weights.file->footer().item(weights.item);
  weights.plane = view.planes.data();
  weights.matrix = view.matrix();
  weights.row_begin = part.row_begin;
  weights.row_end = part.row_end;
  weights.dtype = part.tensor.dtype();
  const bool rounds = math == Math::bf16 && orientation == Orientation::transposed;
  const Entries rounding = rounds ? Entries::rounded_to_bf16 : Entries::as_they_are;
  if (view.type == kCodebookEncoding) {
    CDNA_TRY(describe_codebook(weights, view, rounding));
  } else {
    CDNA_TRY(describe_exact(weights, rounding));
  }
  weights.reader_bytes = CDNA_TRY(bytes_of_reader(weights, view));
  const bool int8_fits =
      weights.form == WeightForm::codes && all_finite(weights.decoder.codebook) && orientation == Orientation::linear;
  if (math == Math::int8 && !int8_fits)
    return unsupported(weights,
                       "int8 needs codes of at most 8 bits, finite, for one element, with nothing but scales of groups "
                       "of 32 or more, and "
                       "x W^T");
  return weights;
}

Result<void> Weights::load_finish_tables() {
  if (decoder.finishes() && has_blocks()) decoder.finish_tables = CDNA_TRY(file->finish_tables(item));
  return {};
}

cdna_order Weights::order(Math math) const {
  if (form != WeightForm::codes) return CDNA_ORDER_NATURAL;
  const bool nibbles = decoder.bits == 4;
  switch (math) {
    case Math::f32:
      return nibbles ? CDNA_ORDER_NIBBLES : CDNA_ORDER_EVEN_ODD;
    case Math::bf16:
      return nibbles ? CDNA_ORDER_WORD_NIBBLES : CDNA_ORDER_BYTES;
    case Math::int8:
      return nibbles ? CDNA_ORDER_BYTE_NIBBLES : CDNA_ORDER_NATURAL;
  }
  return CDNA_ORDER_NATURAL;
}

// ---- Rows ----

namespace {

// The first of outliers [begin, end) of a block at or behind a position.
std::uint64_t outlier_from(const Block& block, std::uint64_t begin, std::uint64_t end, std::uint64_t position) {
  while (begin < end) {
    const std::uint64_t middle = (begin + end) / 2;
    if (load<std::uint32_t>(block.outlier_positions.subspan(4 * middle)) < position) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin;
}

}  // namespace

std::uint64_t WeightRow::first_outlier_from(std::uint64_t column) const {
  return column == 0 ? outlier_begin : outlier_from(*block, outlier_begin, outlier_end, position + column);
}

RowWalk::RowWalk(const Block& block, std::uint64_t first_row)
    : block_(&block),
      row_bytes_(block.data.size() / block.row_count),
      scale_bytes_(block.group_scales.size() / block.row_count),
      offset_bytes_(block.group_offsets.size() / block.row_count),
      rank_(block.low_rank_left.size() / block.row_count),
      next_outlier_(outlier_from(block, 0, block.outlier_count, first_row * block.entry_count)) {}

WeightRow RowWalk::row(std::uint64_t row) {
  const Block& block = *block_;
  WeightRow result;
  result.block = block_;
  result.data = block.data.subspan(row * row_bytes_, row_bytes_);
  result.group_scales = block.group_scales.subspan(row * scale_bytes_, scale_bytes_);
  result.group_offsets = block.group_offsets.subspan(row * offset_bytes_, offset_bytes_);
  result.low_rank_left = block.low_rank_left.subspan(row * rank_, rank_);
  if (!block.row_scales.empty()) result.row_scale = block.row_scales[row];
  result.entry_begin = block.entry_begin;
  result.entry_count = block.entry_count;
  result.position = row * block.entry_count;
  result.outlier_begin = next_outlier_;
  const std::uint64_t end = result.position + block.entry_count;
  while (next_outlier_ < block.outlier_count &&
         load<std::uint32_t>(block.outlier_positions.subspan(4 * next_outlier_)) < end)
    ++next_outlier_;
  result.outlier_end = next_outlier_;
  return result;
}

void fill_scales(const Weights& weights, const WeightRow& row, std::uint64_t begin, std::uint64_t count,
                 const float* row_scale, const cdna_f32_kernels& kernels, float* scales) {
  const std::uint32_t group = weights.decoder.group;
  const std::uint64_t columns = (count + CDNA_CHUNK - 1) / CDNA_CHUNK * CDNA_CHUNK;
  float* const end = scales + columns / CDNA_SCALE_COLUMNS;
  if (group == 0) {
    std::fill(scales, end, *row_scale);
    return;
  }
  const std::uint64_t repeat = group / CDNA_SCALE_COLUMNS;
  const std::uint64_t groups = (count + group - 1) / group;
  if (weights.scale_lookup != nullptr) {
    const auto* const numbers = reinterpret_cast<const std::uint8_t*>(row.group_scales.data()) + begin / group;
    kernels.look_up(weights.scale_lookup, numbers, groups, repeat, scales);
  } else {
    const std::uint64_t bytes = bits_of(weights.decoder.group_dtype) / 8;
    for (std::uint64_t i = 0; i < groups; ++i) {
      float scale = 0;
      convert_value(weights.decoder.group_dtype, row.group_scales.data() + (begin / group + i) * bytes, DType::f32,
                    reinterpret_cast<std::byte*>(&scale));
      std::fill_n(scales + i * repeat, repeat, scale);
    }
  }
  std::fill(scales + std::min<std::uint64_t>(groups * repeat, columns / CDNA_SCALE_COLUMNS), end, 0.0F);
  if (row_scale != nullptr) {
    for (float* scale = scales; scale != end; ++scale) *scale *= *row_scale;
  }
}

namespace {

void decode_piece(const RowDecoder& decoder, const WeightRow& row, std::uint64_t begin, std::span<float> out) {
  const std::uint64_t group = decoder.group == 0 ? 0 : begin / decoder.group;
  decoder.decode(row.data.subspan(begin / decoder.vector * decoder.bits / 8), row.row_scale,
                 row.group_scales.subspan(group * (bits_of(decoder.group_dtype) / 8)),
                 row.group_offsets.subspan(group * (bits_of(decoder.offset_dtype) / 8)), out);
}

void widen_elements(DType dtype, const std::byte* from, std::span<float> out) {
  switch (dtype) {
    case DType::f16:
      return codebook_kernels().widen_f16(from, out.size(), out.data());
    case DType::bf16:
      return codebook_kernels().widen_bf16(from, out.size(), out.data());
    case DType::f32:
      std::memcpy(out.data(), from, out.size_bytes());
      return;
    default:
      for (std::uint64_t i = 0; i < out.size(); ++i)
        convert_value(dtype, from + i * 8, DType::f32, reinterpret_cast<std::byte*>(&out[i]));
  }
}

}  // namespace

void widen_piece(const Weights& weights, const WeightRow& row, std::uint64_t begin, std::uint64_t count, float* out) {
  if (weights.form == WeightForm::values)
    return widen_elements(weights.dtype, row.data.data() + begin * (bits_of(weights.dtype) / 8), {out, count});
  decode_piece(weights.decoder, row, begin, {out, count});
  for (std::uint64_t o = row.first_outlier_from(begin); o < row.outlier_end; ++o) {
    const std::uint64_t column = row.outlier_column(o);
    if (column >= begin + count) break;
    if (column >= begin) out[column - begin] = outlier_value(weights, *row.block, o);
  }
  weights.decoder.finish(row.low_rank_left, row.entry_begin + begin, {out, count});
}

// ---- Reading ----

namespace {

// Of the planes of scales and outliers, on an average.
std::uint64_t side_bytes_per_block(const Weights& weights) {
  const ItemView view = weights.file->footer().item(weights.item);
  std::uint64_t bytes = 0;
  for (const wire::Plane& plane : view.planes.subspan(1)) {
    if ((plane.role() & kIgnorableRole) == 0 && plane.scope() != kWhole) bytes += plane.stored_length();
  }
  return bytes / std::max<std::uint64_t>(1, weights.plane->block_count());
}

}  // namespace

Result<WeightReader> WeightReader::create(const Weights& weights, std::optional<std::uint64_t> resident_bytes_max) {
  auto reader = CDNA_TRY(BlockReader::create(*weights.file, weights.item, weights.first_block(), weights.end_block()));
  WeightReader result(std::move(reader));
  result.resident_bytes_max_ = resident_bytes_max;
  result.entries_ = CDNA_TRY(weights.file->touch(weights.item))->entries.data();
  result.side_bytes_ = side_bytes_per_block(weights);
  return result;
}

Result<Block> WeightReader::fetch(std::uint64_t block) {
  if (!resident_bytes_max_) return reader_->fetch(block);
  if (resident_.empty() || resident_.back() != block) {
    if (resident_bytes_ + entries_[block].stored_length() + side_bytes_ > *resident_bytes_max_) {
      for (const std::uint64_t used : resident_) reader_->release(used);
      resident_.clear();
      resident_bytes_ = 0;
    }
    CDNA_TRY(reader_->bring_back(block));
    resident_.push_back(block);
    resident_bytes_ += entries_[block].stored_length() + side_bytes_;
  }
  return reader_->fetch(block);
}

// ---- Several blocks ----

std::uint64_t RowGroup::rows_max(const Weights& weights) {
  return weights.cut() ? 1 : (kBlocksMax - 1) * weights.plane->rows_per_block() + 1;  // From any row of a block.
}

std::uint64_t RowGroup::scratch_bytes(const Weights& weights, std::uint64_t rows) {
  return weights.reader_bytes * slot_count(weights, rows);
}

std::uint64_t RowGroup::slot_count(const Weights& weights, std::uint64_t rows) {
  if (weights.cut()) return 1;
  const std::uint64_t per_block = weights.plane->rows_per_block();
  return std::min((rows + per_block - 2) / per_block + 1, kBlocksMax);  // From any row of a block.
}

RowGroup::RowGroup(const Weights& weights, std::uint64_t rows, std::optional<std::uint64_t> resident_bytes_max)
    : weights_(&weights), slots_(slot_count(weights, rows)), resident_bytes_max_(resident_bytes_max) {
  if (resident_bytes_max_) *resident_bytes_max_ /= slots_;
}

Result<const Block*> RowGroup::fetch(std::uint64_t block) {
  const std::size_t slot = block % slots_;
  if (readers_[slot] == nullptr) {
    WeightReader reader = CDNA_TRY(WeightReader::create(*weights_, resident_bytes_max_));
    readers_[slot] = std::make_unique<WeightReader>(std::move(reader));
  }
  blocks_[slot] = CDNA_TRY(readers_[slot]->fetch(block));
  return &blocks_[slot];
}

Result<std::span<const WeightRow>> RowGroup::rows(std::uint64_t begin, std::uint64_t end) {
  rows_.clear();
  const std::uint64_t first = block_at(*weights_->plane, begin, 0);
  const std::uint64_t last = block_at(*weights_->plane, end - 1, 0);
  for (std::uint64_t number = first; number <= last; ++number) {
    const Block& block = *CDNA_TRY(fetch(number));
    const std::uint64_t stop = std::min(end, block.row_begin + block.row_count);
    std::uint64_t row = std::max(begin, block.row_begin);
    RowWalk walk(block, row - block.row_begin);
    for (; row < stop; ++row) rows_.push_back(walk.row(row - block.row_begin));
  }
  return std::span<const WeightRow>(rows_);
}

Result<std::span<const WeightRow>> RowGroup::piece(std::uint64_t block) {
  rows_.assign(1, RowWalk(*CDNA_TRY(fetch(block))).row(0));
  return std::span<const WeightRow>(rows_);
}

}  // namespace cdna
