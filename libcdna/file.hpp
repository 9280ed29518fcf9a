// An open file: its source, its checked footer, and what has been verified so far.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "cdna/reader.hpp"
#include "kernels/cpu/matmul.h"
#include "libcdna/aligned_buffer.hpp"
#include "libcdna/format/footer.hpp"
#include "libcdna/format/tail.hpp"
#include "libcdna/pinned_pages.hpp"
#include "libcdna/stopwatch.hpp"

namespace cdna {

// Two bits per block, set only by verification. Threads: any; two may verify the same block, which is cheaper than a
// lock.
class BlockBits {
 public:
  explicit BlockBits(std::uint64_t block_count)
      : words_(std::make_unique<std::atomic<std::uint64_t>[]>(block_count / 32 + 1)) {}
  bool verified(std::uint64_t block) const {
    return (word(block).load(std::memory_order_acquire) >> shift(block) & 1) != 0;
  }
  bool failed(std::uint64_t block) const {
    return (word(block).load(std::memory_order_acquire) >> shift(block) & 2) != 0;
  }
  void set_verified(std::uint64_t block) {
    word(block).fetch_or(std::uint64_t{1} << shift(block), std::memory_order_release);
  }
  void set_failed(std::uint64_t block) {
    word(block).fetch_or(std::uint64_t{2} << shift(block), std::memory_order_release);
  }

 private:
  static unsigned shift(std::uint64_t block) { return static_cast<unsigned>(block % 32 * 2); }
  std::atomic<std::uint64_t>& word(std::uint64_t block) const { return words_[block / 32]; }
  std::unique_ptr<std::atomic<std::uint64_t>[]> words_;
};

// The tables that every block of a codebook tensor is decoded with. At most 1 MiB, and some KiB of lookups.
struct CodebookTables {
  std::vector<float> codebook;                // [2^bits, vector]
  std::vector<float> scale_table;             // [256], empty without a U8 group scale.
  std::unique_ptr<const cdna_lookup> lookup;  // The codebook as kernels see it; null above 8 bits, and of vectors.
  std::unique_ptr<const cdna_lookup> scale_lookup;  // The scale table.
};

// What comes after the outliers: the matrix of low rank, and what values are divided by; empty without. A small file
// may state 256 MiB of each of the two large ones (E7).
struct FinishTables {
  std::vector<float> factors;  // [rank]
  AlignedBuffer<float> right;  // [rank, right_stride]
  std::uint64_t right_stride = 0;
  std::vector<float> column_scales;  // [cols]

  std::uint64_t bytes() const { return (factors.size() + right.size() + column_scales.size()) * sizeof(float); }
};

// The one copy that all who decode a tensor share, as long as any of them does; `kept` as long as the file is open.
struct SharedFinishTables {
  std::mutex mutex;  // Held while they are loaded.
  std::weak_ptr<const FinishTables> used;
  std::shared_ptr<const FinishTables> kept;
};

// What the index says of a plane's blocks together.
struct PlaneBlocks {
  std::uint64_t first_entry = 0;        // Of the item's.
  std::uint32_t stored_bytes_max = 0;   // Of a block.
  std::uint32_t decoded_bytes_max = 0;  // Of a block that a codec made.
};

// What is known of an item once its index has been checked.
struct TouchedItem {
  explicit TouchedItem(std::uint64_t entry_count) : entries(entry_count), bits(entry_count) {}
  ~TouchedItem() { delete tables.load(); }
  std::vector<wire::IndexEntry> entries;
  std::vector<PlaneBlocks> planes;
  bool filters_known = true;  // U7.
  mutable BlockBits bits;
  mutable std::atomic<const CodebookTables*> tables{nullptr};
  mutable SharedFinishTables finish_tables;
};

// A plane of an item whose index has been checked: all that its blocks are found with.
struct TouchedPlane {
  std::uint32_t item = 0;
  std::uint32_t number = 0;
  const wire::Plane* plane = nullptr;
  const TouchedItem* touched = nullptr;
  std::uint64_t first_entry = 0;

  const PlaneBlocks& blocks() const { return touched->planes[number]; }
  const wire::IndexEntry& entry(std::uint64_t block) const { return touched->entries[first_entry + block]; }
  std::uint64_t offset_of(std::uint64_t block) const { return plane->offset() + entry(block).offset(); }
};

class File : public std::enable_shared_from_this<File> {
 public:
  // Checks tail, footer and head. A checker passes over the head here, so that its damage hides no other.
  enum class Head : bool { unchecked, checked };
  static Result<std::shared_ptr<const File>> open(std::unique_ptr<Source> source, const OpenOptions& options,
                                                  Head head = Head::checked);
  ~File();

  const Source& source() const { return *source_; }
  const Footer& footer() const { return footer_; }
  const wire::Tail& tail() const { return tail_; }
  const Digest& root() const { return root_; }
  bool zero_copy() const { return zero_copy_; }

  // The item's index, checked at the first call. Errors: io, corrupt, malformed, unsupported (X2), limit.
  Result<const TouchedItem*> touch(std::uint32_t item) const;

  // Errors: those of touch().
  Result<TouchedPlane> touch(std::uint32_t item, std::uint32_t plane) const;

  // The verified stored bytes of a block: in the mapping, or read into `buffer` (at least stored_length bytes).
  Result<std::span<const std::byte>> stored_block(const TouchedPlane& plane, std::uint64_t block,
                                                  std::span<std::byte> buffer) const {
    if (zero_copy_ && plane.touched->bits.verified(plane.first_entry + block)) {
      counters_.blocks_reused.fetch_add(1, std::memory_order_relaxed);
      return source_->mapping().subspan(plane.offset_of(block), plane.entry(block).stored_length());
    }
    return verified_block(plane, block, buffer);
  }

  // Brings a block's pages back that release() let go.
  Result<void> bring_back(const TouchedPlane& plane, std::uint64_t block) const {
    if (!zero_copy_ || !plane.touched->bits.verified(plane.first_entry + block)) return {};
    return populate(plane.offset_of(block), plane.entry(block).stored_length());
  }

  // Lets a block's pages of the mapping go, until they are touched again.
  void release(const TouchedPlane& plane, std::uint64_t block) const {
    if (zero_copy_) source_->release(plane.offset_of(block), plane.entry(block).stored_length());
  }

  // Has the disk read a block that will be needed soon. Small ones come with their neighbours anyway.
  void prefetch(const TouchedPlane& plane, std::uint64_t block) const {
    constexpr std::uint32_t kWorthwhileBytes = 64 << 10;
    const std::uint32_t size = plane.entry(block).stored_length();
    if (size >= kWorthwhileBytes && zero_copy_ && !plane.touched->bits.verified(plane.first_entry + block))
      source_->prefetch(plane.offset_of(block), size);
  }

  // Decoding tables of a supported codebook tensor, made at the first call.
  Result<const CodebookTables*> tables(std::uint32_t item) const;

  // Null for a tensor without. Threads that ask for those of one tensor at a time wait for the one that loads them. The
  // first 64 MiB of a file's stay loaded, others while somebody holds them.
  Result<std::shared_ptr<const FinishTables>> finish_tables(std::uint32_t item) const;

  // H1.
  Result<void> check_head() const;

  // `error` with the file's and the item's name.
  Error placed(Error error, std::uint32_t item) const;

  struct Counters {
    std::atomic<std::uint64_t> bytes_read{0}, bytes_hashed{0}, bytes_decoded{0}, blocks_verified{0}, blocks_decoded{0};
    std::atomic<std::uint64_t> read_ns{0}, verify_ns{0}, decode_ns{0};
    // The one that threads count without a system call or a hash between: it keeps its cache line to itself.
    alignas(64) std::atomic<std::uint64_t> blocks_reused{0};
  };
  Counters& counters() const { return counters_; }

  PinnedPages& pinned_pages() const { return pinned_pages_; }

 private:
  explicit File(const OpenOptions& options) : limits_(options.limits), pinned_pages_(options.pinned_bytes_max) {}
  Result<void> read_ends(const OpenOptions& options);
  Result<void> read_footer();
  Result<std::vector<std::byte>> read(std::uint64_t offset, std::uint64_t size) const;
  Result<void> read_into(std::uint64_t offset, std::span<std::byte> out) const;
  Result<void> populate(std::uint64_t offset, std::uint64_t size) const;
  Result<void> verify_index(const ItemView& view, std::span<const wire::IndexEntry> entries) const;
  Result<std::unique_ptr<TouchedItem>> load_index(std::uint32_t item) const;
  Result<void> check_decoded_limit(const ItemView& view, std::span<const wire::IndexEntry> entries) const;
  Result<std::span<const std::byte>> verified_block(const TouchedPlane& plane, std::uint64_t block,
                                                    std::span<std::byte> buffer) const;
  // Whether so many bytes of FinishTables may stay; if so, they count.
  bool reserve_kept(std::uint64_t bytes) const;
  Result<void> verify_stored(const wire::IndexEntry& entry, std::span<const std::byte> bytes) const;

  std::unique_ptr<Source> source_;
  Limits limits_;
  bool zero_copy_ = false;
  wire::Tail tail_;
  Digest root_{};
  Footer footer_;
  std::unique_ptr<std::atomic<TouchedItem*>[]> touched_;  // Per item; null until touched.
  mutable std::atomic<std::uint64_t> kept_bytes_{0};      // Of FinishTables.
  mutable Counters counters_;
  mutable PinnedPages pinned_pages_;
};

inline const File& file_of(const Item& item) { return *item.file_; }

}  // namespace cdna
