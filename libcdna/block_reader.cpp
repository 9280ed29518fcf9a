// Blocks of a tensor, put together from its planes.
#include "libcdna/block_reader.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "libcdna/decode/codebook.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/format/index.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

std::uint32_t number_of(const ItemView& view, const wire::Plane& plane) {
  return static_cast<std::uint32_t>(&plane - view.planes.data());
}

std::uint64_t divide_up(std::uint64_t value, std::uint64_t by) { return value / by + (value % by != 0 ? 1 : 0); }

std::uint64_t element_count_of(const wire::Plane& codes, const BlockPlace& place) {
  return place.row_count * place.entry_count * codes.vector();
}

struct BlockNumber {
  std::uint32_t item = 0;
  std::uint32_t plane = 0;
  std::uint64_t block = 0;
};

struct Outliers {
  std::uint64_t count = 0;
  std::span<const std::byte> values;
  std::span<const std::byte> positions;
};

// Checks E5, and E6 for a block of `element_count` elements.
Result<Outliers> split_outliers(const File& file, BlockNumber number, std::span<const std::byte> bytes,
                                std::uint64_t element_count) {
  const TouchedPlane touched = CDNA_TRY(file.touch(number.item, number.plane));
  const wire::Plane& plane = *touched.plane;
  const auto malformed = [&](const char* rule, std::string message) {
    Error error = fail(Code::malformed, rule, std::move(message), touched.offset_of(number.block));
    error.plane = static_cast<std::int32_t>(number.plane);
    error.block = static_cast<std::int64_t>(number.block);
    return file.placed(std::move(error), number.item);
  };
  const std::uint64_t value_bytes = bits_of(static_cast<DType>(plane.dtype())) / 8;
  const std::uint64_t each = value_bytes + sizeof(std::uint32_t);
  if (bytes.size() % each != 0)
    return malformed(
        "E5", "outliers have " + std::to_string(bytes.size()) + " bytes, not a multiple of " + std::to_string(each));
  Outliers outliers;
  outliers.count = bytes.size() / each;
  outliers.values = bytes.first(outliers.count * value_bytes);
  outliers.positions = bytes.subspan(outliers.values.size());
  std::uint64_t least = 0;
  for (std::uint64_t i = 0; i < outliers.count; ++i) {
    const auto position = load<std::uint32_t>(outliers.positions.subspan(4 * i));
    if (position < least || position >= element_count) {
      return malformed("E6", "outlier " + std::to_string(i) + " is at position " + std::to_string(position) +
                                 ", out of order or of range");
    }
    least = std::uint64_t{position} + 1;
  }
  return outliers;
}

}  // namespace

Result<SideReader> SideReader::create(const File& file, std::uint32_t item, std::uint32_t plane, std::uint64_t row_end,
                                      std::uint64_t bytes_max) {
  const wire::Plane& info = file.footer().item(item).planes[plane];
  const std::uint64_t end = block_at(info, row_end - 1, info.row_entries() - 1) + 1;
  PlaneReader reader = CDNA_TRY(PlaneReader::create(file, item, plane, end));
  return SideReader(std::move(reader), info, bytes_max);
}

Result<std::span<const std::byte>> SideReader::fetch(std::uint64_t row_begin, std::uint64_t row_count,
                                                     std::uint64_t entry_begin, std::uint64_t entry_end) {
  const std::uint64_t entry_bytes = plane_->bits() / 8;
  const std::uint64_t size = row_count * (entry_end - entry_begin) * entry_bytes;
  const bool whole_rows = entry_begin == 0 && entry_end == plane_->row_entries();
  if (plane_->rows_per_block() != 0 && (whole_rows || row_count == 1)) {
    // P7: the rows of one block of codes lie in one block of this plane.
    const std::uint64_t block = row_begin / plane_->rows_per_block();
    const std::span<const std::byte> bytes = CDNA_TRY(reader_.fetch(block));
    const std::uint64_t row = row_begin - block * plane_->rows_per_block();
    const std::span<const std::byte> slice =
        bytes.subspan((row * plane_->row_entries() + entry_begin) * entry_bytes, size);
    if (reinterpret_cast<std::uintptr_t>(slice.data()) % alignof(float) == 0) return slice;
    std::memcpy(scratch_.data(), slice.data(), size);  // Over a caller's own unaligned memory, or short group scales.
    return std::span<const std::byte>(scratch_).first(size);
  }
  std::byte* out = scratch_.data();
  for (std::uint64_t row = row_begin; row < row_begin + row_count; ++row) {
    CDNA_TRY(gather(row, entry_begin, entry_end, out));
    out += (entry_end - entry_begin) * entry_bytes;
  }
  return std::span<const std::byte>(scratch_).first(size);
}

Result<void> SideReader::gather(std::uint64_t row, std::uint64_t entry_begin, std::uint64_t entry_end, std::byte* out) {
  const std::uint64_t entry_bytes = plane_->bits() / 8;
  while (entry_begin < entry_end) {
    const std::uint64_t block = block_at(*plane_, row, entry_begin);
    const std::span<const std::byte> bytes = CDNA_TRY(reader_.fetch(block));
    const std::uint64_t piece_begin = entry_begin / kCutEntries * kCutEntries;
    const std::uint64_t piece_end = std::min(piece_begin + kCutEntries, entry_end);
    std::memcpy(out, bytes.data() + (entry_begin - piece_begin) * entry_bytes, (piece_end - entry_begin) * entry_bytes);
    out += (piece_end - entry_begin) * entry_bytes;
    entry_begin = piece_end;
  }
  return {};
}

Result<std::unique_ptr<BlockReader>> BlockReader::create(const File& file, std::uint32_t item, std::uint64_t begin,
                                                         std::uint64_t end) {
  const ItemView view = file.footer().item(item);
  const TouchedItem* const touched = CDNA_TRY(file.touch(item));
  if (!touched->filters_known) return file.placed(std::move(check_filters(view, touched->entries)).error(), item);
  PlaneReader data = CDNA_TRY(PlaneReader::create(file, item, 0, end));
  std::unique_ptr<BlockReader> reader(new BlockReader(file, item, std::move(data)));
  if (view.type == kCodebookEncoding) CDNA_TRY(reader->add_sides(view, begin, end));
  return reader;
}

Result<void> BlockReader::add_sides(const ItemView& view, std::uint64_t begin, std::uint64_t end) {
  if (begin == end) return {};
  const BlockPlace first = block_place(view.planes[0], view.matrix(), 0);  // No other block has more rows or entries.
  const BlockPlace last = block_place(view.planes[0], view.matrix(), end - 1);
  const std::uint64_t row_end = last.row_begin + last.row_count;
  if (const wire::Plane* const plane = find_plane(view, kRowScale)) {
    row_scales_ =
        CDNA_TRY(SideReader::create(*file_, item_, number_of(view, *plane), row_end, first.row_count * sizeof(float)));
  }
  const auto open_groups = [&](const wire::Plane& plane) {
    group_ = plane.group();
    const std::uint64_t groups = divide_up(first.entry_count * vector_, group_);
    const std::uint64_t bytes = first.row_count * groups * (plane.bits() / 8);
    return SideReader::create(*file_, item_, number_of(view, plane), row_end, bytes);
  };
  if (const wire::Plane* const plane = find_plane(view, kGroupScale)) group_scales_ = CDNA_TRY(open_groups(*plane));
  if (const wire::Plane* const plane = find_plane(view, kGroupOffset)) group_offsets_ = CDNA_TRY(open_groups(*plane));
  if (const wire::Plane* const plane = find_plane(view, kLowRankLeft)) {
    rank_ = plane->row_entries();
    low_rank_left_ = CDNA_TRY(
        SideReader::create(*file_, item_, number_of(view, *plane), row_end, first.row_count * rank_ * sizeof(float)));
  }
  if (const wire::Plane* const plane = find_plane(view, kOutliers)) {
    outlier_plane_ = number_of(view, *plane);
    outliers_ = CDNA_TRY(PlaneReader::create(*file_, item_, outlier_plane_, end));
  }
  return {};
}

Result<Block> BlockReader::fetch(std::uint64_t number) {
  const BlockPlace place = block_place(*plane_, matrix_, number);
  Block block;
  block.number = number;
  block.row_begin = place.row_begin;
  block.row_count = place.row_count;
  block.entry_begin = place.entry_begin * vector_;
  block.entry_count = place.entry_count * vector_;
  block.data = CDNA_TRY(data_.fetch(number));
  block.in_place = data_.in_place();
  block.max_abs_error = static_cast<double>(data_.entry(number).max_abs_error());
  CDNA_TRY(fetch_sides(place, block));
  if (outliers_) {
    const std::span<const std::byte> bytes = CDNA_TRY(outliers_->fetch(number));
    const Outliers outliers =
        CDNA_TRY(split_outliers(*file_, {item_, outlier_plane_, number}, bytes, element_count_of(*plane_, place)));
    block.outlier_count = outliers.count;
    block.outlier_values = outliers.values;
    block.outlier_positions = outliers.positions;
  }
  return block;
}

Result<void> BlockReader::fetch_sides(const BlockPlace& place, Block& block) {
  if (row_scales_) {
    const std::span<const std::byte> bytes = CDNA_TRY(row_scales_->fetch(place.row_begin, place.row_count, 0, 1));
    block.row_scales = {reinterpret_cast<const float*>(bytes.data()), place.row_count};
  }
  if (group_scales_) {
    const std::uint64_t begin = block.entry_begin / group_;
    const std::uint64_t end = divide_up(block.entry_begin + block.entry_count, group_);
    block.group_scales = CDNA_TRY(group_scales_->fetch(place.row_begin, place.row_count, begin, end));
    if (group_offsets_)
      block.group_offsets = CDNA_TRY(group_offsets_->fetch(place.row_begin, place.row_count, begin, end));
  }
  if (low_rank_left_) {
    const std::span<const std::byte> bytes =
        CDNA_TRY(low_rank_left_->fetch(place.row_begin, place.row_count, 0, rank_));
    block.low_rank_left = {reinterpret_cast<const float*>(bytes.data()), place.row_count * rank_};
  }
  return {};
}

void BlockReader::release(std::uint64_t number) const {
  const std::uint64_t row = block_place(*plane_, matrix_, number).row_begin;
  data_.release(number);
  if (row_scales_) row_scales_->release(row);
  if (group_scales_) group_scales_->release(row);
  if (group_offsets_) group_offsets_->release(row);
  if (low_rank_left_) low_rank_left_->release(row);
  if (outliers_) outliers_->release(number);
}

Result<void> read_planes(const File& file, std::uint32_t item, const PlaneVisitor& visit) {
  const ItemView view = file.footer().item(item);
  for (std::uint32_t number = 0; number < view.planes.size(); ++number) {
    const wire::Plane& plane = view.planes[number];
    if ((plane.role() & kIgnorableRole) != 0) continue;
    PlaneReader reader = CDNA_TRY(PlaneReader::create(file, item, number, plane.block_count()));
    for (std::uint64_t block = 0; block < plane.block_count(); ++block) {
      std::span<const std::byte> values = CDNA_TRY(reader.fetch(block));
      if (plane.role() == kOutliers) {
        const BlockPlace place = block_place(view.planes[0], view.matrix(), block);
        const std::uint64_t element_count = element_count_of(view.planes[0], place);
        values = CDNA_TRY(split_outliers(file, {item, number, block}, values, element_count)).values;
      }
      if (visit) visit(plane, block, values);
    }
    if (plane.role() == kCodebook) CDNA_TRY(load_codebook(file, item));
  }
  return {};
}

}  // namespace cdna
