// Reads the blocks of a tensor with everything that belongs to them in its other planes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "cdna/reader.hpp"
#include "libcdna/format/geometry.hpp"
#include "libcdna/plane_reader.hpp"

namespace cdna {

// A side plane of scope 1 (scales, offsets, rows of the matrix of low rank), from which the rows and entries of one
// block are taken.
class SideReader {
 public:
  // For rows up to `row_end`, of which a block needs at most `bytes_max` bytes of the plane. Requires: some rows and
  // entries.
  static Result<SideReader> create(const File& file, std::uint32_t item, std::uint32_t plane, std::uint64_t row_end,
                                   std::uint64_t bytes_max);

  // Lets the pages of the block go that holds the first entries of a row.
  void release(std::uint64_t row) const { reader_.release(block_at(*plane_, row, 0)); }

  // Entries [entry_begin, entry_end) of rows [row_begin, row_begin + row_count), row after row, aligned to 4.
  Result<std::span<const std::byte>> fetch(std::uint64_t row_begin, std::uint64_t row_count, std::uint64_t entry_begin,
                                           std::uint64_t entry_end);

 private:
  SideReader(PlaneReader reader, const wire::Plane& plane, std::uint64_t bytes_max)
      : reader_(std::move(reader)), plane_(&plane), scratch_(bytes_max) {}
  Result<void> gather(std::uint64_t row, std::uint64_t entry_begin, std::uint64_t entry_end, std::byte* out);

  PlaneReader reader_;
  const wire::Plane* plane_;
  std::vector<std::byte> scratch_;
};

// Reads a codebook tensor plane after plane, block by block: the order in which the rules C1..E6 are to be reported
// (spec/format.md, 16.2), and all of its planes, also where there are no codes. `visit` gets the entries of each
// decoded block of a plane, of outliers their values; may be empty. Requires: a supported codebook tensor without
// unknown filters.
using PlaneVisitor = std::function<void(const wire::Plane&, std::uint64_t block, std::span<const std::byte>)>;
Result<void> read_planes(const File& file, std::uint32_t item, const PlaneVisitor& visit = {});

class BlockReader {
 public:
  // For blocks [begin, end) of the tensor's first plane. Requires: a supported tensor.
  static Result<std::unique_ptr<BlockReader>> create(const File& file, std::uint32_t item, std::uint64_t begin,
                                                     std::uint64_t end);

  // Checks E5 and E6 besides what PlaneReader checks. Valid until the next fetch.
  Result<Block> fetch(std::uint64_t block);

  // Lets the pages of a block that was fetched go, with those of what belongs to it; brings the block's own back.
  void release(std::uint64_t block) const;
  Result<void> bring_back(std::uint64_t block) const { return data_.bring_back(block); }

 private:
  BlockReader(const File& file, std::uint32_t item, PlaneReader data)
      : file_(&file),
        item_(item),
        plane_(file.footer().item(item).planes.data()),
        matrix_(file.footer().item(item).matrix()),
        vector_(plane_->vector()),
        data_(std::move(data)) {}
  Result<void> add_sides(const ItemView& view, std::uint64_t begin, std::uint64_t end);
  Result<void> fetch_sides(const BlockPlace& place, Block& block);

  const File* file_;
  std::uint32_t item_;
  const wire::Plane* plane_;  // The first: codes or elements.
  MatrixView matrix_;
  std::uint64_t vector_ = 1;  // Columns for each entry of the first plane.
  PlaneReader data_;
  std::optional<SideReader> row_scales_;
  std::optional<SideReader> group_scales_;
  std::optional<SideReader> group_offsets_;
  std::optional<SideReader> low_rank_left_;
  std::uint64_t group_ = 0;
  std::uint64_t rank_ = 0;
  std::optional<PlaneReader> outliers_;
  std::uint32_t outlier_plane_ = 0;
};

}  // namespace cdna
