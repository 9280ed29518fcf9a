// Reading CDNA files: open, look up, iterate verified blocks, read rows.
//
// open() checks head, tail and footer completely: names, shapes, products, places. The index of a tensor is checked
// when the tensor is first touched, a block when the block is. Nothing is handed out unverified.
//
// Lifetimes: Item, Tensor, Asset, BlockRange, Block and all spans and string views are valid while their Reader, or a
// copy of it, lives. Threads: Reader, Item, Tensor and Asset may be used from any thread; a BlockRange belongs to one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/codec.hpp"
#include "cdna/digest.hpp"
#include "cdna/dtype.hpp"
#include "cdna/error.hpp"
#include "cdna/limits.hpp"
#include "cdna/metadata.hpp"
#include "cdna/source.hpp"
#include "cdna/statistics.hpp"

namespace cdna {

class File;
class BlockReader;

// What "verified" promises (spec/format.md, 16.3).
enum class Trust : std::uint8_t {
  automatic,  // zero_copy for mapped files, strict otherwise.
  // Blocks are verified in the shared mapping at first touch and used from there. For files that nobody changes:
  // - cut off before a block's first touch: an error (io, or corrupt within the last page that is left), but on Linux
  //   before 5.14 SIGBUS;
  // - cut off after it: touching the block raises SIGBUS, in the library and in the caller;
  // - rewritten in place after it: not noticed by this Reader; a new one notices;
  // - replaced by rename: this Reader keeps the old file, as in all modes.
  zero_copy,
  // Each block is copied to private memory at each use, verified there and used from there. Whatever becomes of the
  // file, its bytes are right or an error with item, plane, block and offset: io (cut off, unreadable; the next use
  // tries again) or corrupt (rewritten; remembered).
  strict,
};

struct OpenOptions {
  Io io = Io::automatic;
  Trust trust = Trust::automatic;  // zero_copy on a source without a mapping is refused.
  Limits limits;
  // What all Pins of the file together may keep in memory, in whole pages. 0: no pinning.
  std::uint64_t pinned_bytes_max = 0;
  std::optional<Digest> expected_root;  // Nothing but the tail is used before the root has been compared.
  FileSystem* file_system = &posix_file_system();
};

// Counts since open, of all threads together. Each is exact; together they are of no single moment while threads read.
struct ReadStatistics {
  std::uint64_t bytes_read = 0;       // Copied from the source.
  std::uint64_t bytes_hashed = 0;     // Of blocks and indices.
  std::uint64_t bytes_decoded = 0;    // Made by codecs.
  std::uint64_t blocks_verified = 0;  // Times a block was hashed.
  std::uint64_t blocks_reused = 0;    // Times a block had been verified before and was used as it is (zero_copy only).
  std::uint64_t blocks_decoded = 0;   // Times a codec ran.
  // Nanoseconds of wall time, summed over threads.
  std::uint64_t read_ns = 0;    // In the source: reading, and bringing a mapping's pages in.
  std::uint64_t verify_ns = 0;  // Hashing blocks and indices.
  std::uint64_t decode_ns = 0;  // In codecs.
};

enum class ItemKind : std::uint16_t {
  tensor = 0,
  asset = 1,
  metadata = 2,
  alias = 3
};  // Others are possible: later versions.

// spec/format.md, section 21. Informative: other values are possible.
enum class Role : std::uint16_t {
  other = 0,
  embedding = 1,
  output_head = 2,
  norm = 3,
  bias = 4,
  matrix = 5,
  convolution = 6,
  vector = 7,
};

// One byte sequence of an item.
struct PlaneInfo {
  std::uint16_t role = 0;
  DType dtype = DType::none;
  std::uint8_t bits = 0;
  std::uint8_t scope = 0;
  std::uint8_t layout = 0;
  std::uint8_t codecs = 0;  // Bit per codec that occurs.
  std::uint16_t group = 0;
  std::uint64_t offset = 0;
  std::uint64_t stored_bytes = 0;
  std::uint64_t rows = 0;
  std::uint64_t row_entries = 0;
  std::uint8_t vector = 0;  // Elements that an entry stands for: 1, of codes also 2 or 4.
  std::uint32_t rows_per_block = 0;
  std::uint32_t block_count = 0;
};

// An entry of the footer: a tensor, an asset, the metadata, an alias, or something of a later version.
class Item {
 public:
  Item(const File& file, std::uint32_t number) : file_(&file), number_(number) {}

  std::uint32_t number() const { return number_; }
  std::string_view name() const;  // Raw bytes, valid UTF-8: escape() before printing.
  std::string_view type() const;  // Encoding of a tensor, media type of an asset.
  ItemKind kind() const;
  Role role() const;
  DType dtype() const;  // Of the source.
  std::span<const std::uint64_t> shape() const;
  // The matrix view (spec/format.md, 7.1).
  std::uint64_t rows() const;
  std::uint64_t cols() const;
  std::uint64_t element_count() const;

  std::uint32_t plane_count() const;
  PlaneInfo plane(std::uint32_t index) const;  // Requires: index < plane_count().
  std::uint64_t block_count() const;           // Of all planes together.
  // Bit per filter that occurs among the blocks of a plane (2: Filter::byte_planes; bit 31: any above 30). Reads the
  // item's index, if nothing else has. Requires: index < plane_count(). Errors: io, corrupt, malformed, unsupported,
  // limit.
  Result<std::uint32_t> filters(std::uint32_t index) const;

  // All bytes of a plane, verified, as one pointer into the mapping; valid while the Reader lives. Every block of the
  // plane must be stored as it is (no codec, no filter). What the bytes are (spec/format.md, 8.2 and 13.2):
  // - data, codes, row and group scales, group offsets, left: the rows one after the other, each [ceil(row_entries *
  // bits / 8)] bytes;
  // - codebook, scale table, factors, right, column scales, pwl, affine, statistics: one such row;
  // - outliers, which come by blocks of plane 0: of block i its n values, then its n positions in that block (u32), not
  //   aligned; then zeros up to the next multiple of 64 from the plane's first byte. What n is says Block, not the
  //   plane.
  // - a plane in packed layout: its blocks, with such zeros between them. (Blocks of our writer's raw planes but
  //   outliers lie without gaps: PlaneInfo::layout 0.)
  // Empty for a plane without blocks. Requires: index < plane_count(). Errors: bad_argument where the source is not
  // mapped, the trust is strict, or a block has a codec or filter; io, corrupt (a digest; a gap that is not zero),
  // malformed (padding bits, E4), unsupported (layout), limit. What values must obey (E3, E5, E6) is checked where
  // blocks are read. Cost: verifies the blocks of this plane that have not been.
  Result<std::span<const std::byte>> plane_bytes(std::uint32_t index) const;
  // A copy of all decoded blocks of a plane, one after the other, whatever the source, the trust and the codecs: what
  // plane_bytes() points to, without gaps. Not of outliers, whose size is that of their blocks (see Block).
  // Requires: index < plane_count(). Errors: io, corrupt, malformed, unsupported, limit; bad_argument for outliers, or
  // where out.size() is not rows * ceil(row_entries * bits / 8) of the plane. Cost: reads the plane.
  Result<void> read_plane(std::uint32_t index, std::span<std::byte> out) const;

  std::uint64_t source_bytes() const;  // Of the row-major source; 0 for an unknown dtype.
  std::uint64_t stored_bytes() const;  // Planes and block index; without record and alignment gaps.
  std::uint64_t record_bytes() const;  // Of the copy of the item that stands beside its planes (spec/format.md, 10).
  std::uint64_t index_offset() const;  // Of the index: 64 bytes per block, plane after plane; 0 without blocks.
  // Of the index, which has length, place, codec, error bound and digest of every block: where it and the planes of two
  // items are equal, so are the bytes stored.
  Digest index_digest() const;
  Digest source_digest() const;  // All zero: unknown.
  // Sums over the source values (0 for exact tensors, +Inf unknown) and the largest error (an upper bound).
  double sum_squares() const;
  double sum_squared_error() const;
  double max_abs_error() const;
  bool may_be_nonfinite() const;  // The NONFINITE feature: scales, codebook or outliers may hold infinities.

  // Checks the index and the digest of every block. Errors: io, corrupt, malformed, unsupported, limit.
  Result<void> verify() const;

 protected:
  friend const File& file_of(const Item& item);
  const File* file_;
  std::uint32_t number_;
};

// One verified block of a tensor's first plane with what belongs to it in the other planes.
struct Block {
  std::uint64_t number = 0;
  std::uint64_t row_begin = 0;  // Rows of the matrix view.
  std::uint64_t row_count = 0;
  std::uint64_t entry_begin = 0;  // Columns of each row: all of them, but where long rows are cut.
  std::uint64_t entry_count = 0;
  // Exact: elements, else codes, one for PlaneInfo::vector columns; row_count rows, each padded to whole bytes
  // (spec/format.md, 8.2).
  std::span<const std::byte> data;
  bool in_place = false;     // `data` points into the mapping.
  double max_abs_error = 0;  // The bound that the index records; +Inf unknown.

  // Codebook encoding only; empty where the tensor has no such plane.
  std::span<const float> row_scales;             // [row_count]
  std::span<const std::byte> group_scales;       // [row_count, groups per row], in the plane's dtype.
  std::span<const std::byte> group_offsets;      // As many, in theirs.
  std::span<const float> low_rank_left;          // [row_count, rank]
  std::span<const std::byte> outlier_values;     // [outlier_count], in the plane's dtype; not aligned.
  std::span<const std::byte> outlier_positions;  // [outlier_count] u32, ascending, within the block; not aligned.
  std::uint64_t outlier_count = 0;
};

// The blocks of some rows, in order; an input range over Result<Block>, to be walked once:
//
//   for (const Result<Block>& block : *range) { if (!block) return block.error(); use(*block); }
//
// A damaged block is an error in its place, and the blocks after it can still be had. Stepping allocates nothing
// (brotli blocks: nothing after the first few). A Block's spans are valid until the next step.
class BlockRange {
 public:
  BlockRange(BlockRange&&) noexcept;
  BlockRange& operator=(BlockRange&&) noexcept;
  ~BlockRange();

  struct End {};
  class Iterator {
   public:
    using value_type = Result<Block>;
    using difference_type = std::ptrdiff_t;
    explicit Iterator(BlockRange& range) : range_(&range) {}
    const Result<Block>& operator*() const { return range_->current_; }
    Iterator& operator++() {
      range_->step();
      return *this;
    }
    void operator++(int) { range_->step(); }
    bool operator==(End) const { return range_->next_ > range_->end_; }

   private:
    BlockRange* range_;
  };

  // Loads the first block. Call once.
  Iterator begin();
  End end() const { return {}; }

 private:
  friend class Tensor;
  BlockRange(std::unique_ptr<BlockReader> reader, std::uint64_t begin, std::uint64_t end);
  void step();

  std::unique_ptr<BlockReader> reader_;
  std::uint64_t next_ = 0;  // One past the block in current_.
  std::uint64_t end_ = 0;
  Result<Block> current_;
};

// Pages of a file that stay in memory while this lives (see Tensor::pin). Keeps the file open, so that it may outlive
// the Reader. Movable; a Pin that was moved from holds nothing. Threads: destroy it on any.
class Pin {
 public:
  Pin(Pin&&) noexcept;
  Pin& operator=(Pin&&) noexcept;
  ~Pin();
  std::uint64_t bytes() const;  // Of its pages, those shared with other pins included.

 private:
  friend class Tensor;
  struct Held;
  explicit Pin(std::unique_ptr<const Held> held);
  std::unique_ptr<const Held> held_;
};

class Tensor : public Item {
 public:
  using Item::Item;

  std::string_view encoding() const { return type(); }

  // Whether this library can decode the tensor. Errors: unsupported (which part is unknown).
  Result<void> check_supported() const;

  // The blocks that cover rows [begin, end) of the matrix view; of all rows without arguments.
  // Requires: begin <= end <= rows(). Errors: io, corrupt, malformed, unsupported, limit (index and codebook).
  Result<BlockRange> blocks(std::uint64_t begin, std::uint64_t end) const;
  Result<BlockRange> blocks() const { return blocks(0, rows()); }
  // Blocks [begin, end) of the first plane by number; a row of over 2^24 columns is many of them.
  // Requires: begin <= end <= plane(0).block_count of a supported tensor. Errors: as of blocks().
  Result<BlockRange> numbered_blocks(std::uint64_t begin, std::uint64_t end) const;

  // Bytes per row that read_rows() writes for elements of `dtype`; of a sub-byte exact tensor, rounded up.
  std::uint64_t row_bytes(DType dtype) const;

  // Decodes rows [begin, end) into `out`: row-major elements of `dtype`, little-endian. Any exact tensor can be read as
  // its own dtype; every tensor of a float dtype, F8, F6 and F4 included, as F16, BF16, F32 or F64. A codebook tensor
  // is decoded in f32 (spec/format.md 13.2) and then rounded once; exact values and outliers are converted from what is
  // stored, so that the dtype in which they are stored restores their bits: of outliers that of their plane, which need
  // not be the source's, and not where a matrix of low rank or column scales change them (other conversions go through
  // f32: from F64 they round twice).
  // Requires: begin <= end <= rows(), out.size() == (end - begin) * row_bytes(dtype). Errors: io, corrupt, malformed,
  // unsupported, limit; bad_argument for another dtype. Cost: touches only the covering blocks.
  Result<void> read_rows(std::uint64_t begin, std::uint64_t end, DType dtype, std::span<std::byte> out) const;

  // plane_bytes(0) of an exact tensor in contiguous layout: its row-major elements. Errors: those of plane_bytes() and
  // check_supported(); bad_argument for another encoding or layout.
  Result<std::span<const std::byte>> contiguous() const;

  // Asks the system to read the blocks that cover rows [begin, end) ahead, of all planes that decoding needs; returns
  // before they are there. What a source does: Source::prefetch. Blocks are neither verified nor decoded.
  // Requires: begin <= end <= rows(). Errors: unsupported; of the index io, corrupt, malformed, limit. That nothing
  // could be read ahead is no error.
  Result<void> prefetch(std::uint64_t begin, std::uint64_t end) const;

  // Gives back the memory that holds those blocks: what a source does is Source::release. What has been verified stays
  // so (zero_copy), and all pointers into the mapping stay valid: pages come back from the page cache or the disk when
  // they are touched. Blocks share pages at their ends, so that a neighbour may lose one; a pinned page stays, and with
  // it possibly the block that begins there. Requires and Errors: as of prefetch().
  Result<void> evict(std::uint64_t begin, std::uint64_t end) const;

  // Verifies those blocks and keeps their pages in memory (mlock) until the Pin is destroyed. A page that several pins
  // hold is counted once against OpenOptions::pinned_bytes_max and stays until the last of them is gone.
  // Requires: begin <= end <= rows(). Errors: those of prefetch(); limit (over pinned_bytes_max, with the bytes needed;
  // nothing has been verified then); unsupported (strict, or a source that cannot lock: not a mapped file); those of
  // verify(); io with errno (ENOMEM or EPERM: RLIMIT_MEMLOCK; EAGAIN: some pages could not be locked). After an error
  // nothing more is locked than before. Cost: reads the blocks. Threads: pinning and unpinning of one file wait for one
  // another.
  Result<Pin> pin(std::uint64_t begin, std::uint64_t end) const;

  // What is recorded about the error and the values: the sums of the item, which are known at open, and the statistics
  // plane (spec/format.md, 13.3). Without such a plane kurtosis and entropy are NaN, and the outliers are counted from
  // the index. Errors: io, corrupt, malformed, unsupported, limit. Cost: the index and one small block.
  Result<TensorStatistics> statistics() const;

  // The codebook [2^bits, vector] widened to f32: entry c is what a code c stands for, PlaneInfo::vector values. Valid
  // while the Reader lives.
  Result<std::span<const float>> codebook() const;

 private:
  Result<void> decode_rows(std::uint64_t begin, std::uint64_t end, DType dtype, std::span<std::byte> out) const;
};

class Asset : public Item {
 public:
  using Item::Item;
  explicit Asset(const Item& item) : Item(item) {}  // Requires: an item of kind asset or metadata.
  std::string_view media_type() const { return type(); }
  std::uint64_t size_bytes() const { return cols(); }
  // Verified content of bytes [offset, offset + out.size()). Requires: within size_bytes().
  // Errors: io, corrupt, malformed, unsupported, limit.
  Result<void> read(std::uint64_t offset, std::span<std::byte> out) const;
};

class Reader {
 public:
  // Opens and checks head, tail and footer. Cost: O(footer), independent of the number of blocks.
  // Errors: io, not_found, bad_argument, not_cdna, truncated, corrupt, root_mismatch, malformed, unsupported, limit.
  static Result<Reader> open(const std::string& path, const OpenOptions& options = {});
  static Result<Reader> open(std::unique_ptr<Source> source, const OpenOptions& options = {});

  const Digest& root() const;
  std::uint64_t file_bytes() const;
  std::uint64_t footer_bytes() const;
  std::uint32_t alignment() const;
  std::uint64_t required_features() const;
  std::uint64_t optional_features() const;
  Trust trust() const;  // zero_copy or strict.
  const Source& source() const;
  ReadStatistics statistics() const;

  // Items in writing order, ignorable kinds included.
  std::uint32_t item_count() const;
  Item item(std::uint32_t number) const;

  // Tensors and aliases in name order; an alias is returned as itself: resolve() gives its tensor.
  std::uint32_t tensor_count() const;
  Item tensor_item(std::uint32_t index) const;
  // The tensor of an item of kind tensor or alias. Requires: such an item.
  Tensor resolve(const Item& item) const;

  // By name; aliases lead to their tensor. Cost: a binary search.
  std::optional<Tensor> find(std::string_view name) const;
  std::optional<Asset> find_asset(std::string_view name) const;

  // Empty without a metadata item. Errors: io, corrupt, malformed, unsupported, limit.
  Result<Metadata> metadata() const;

 private:
  explicit Reader(std::shared_ptr<const File> file) : file_(std::move(file)) {}
  std::shared_ptr<const File> file_;
};

}  // namespace cdna
