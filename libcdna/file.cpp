// Opening, touching, verifying: the left half of the picture in ARCHITECTURE.md.
#include "libcdna/file.hpp"

#include <algorithm>
#include <string>

#include "libcdna/cpu.hpp"
#include "libcdna/decode/codebook.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/format/index.hpp"
#include "libcdna/hash/sha256.hpp"
#include "libcdna/hash/sha256_kernel.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

// Requires: entries that check_index has passed.
std::vector<PlaneBlocks> planes_of(const ItemView& view, std::span<const wire::IndexEntry> entries) {
  std::vector<PlaneBlocks> planes;
  std::uint64_t next = 0;
  for (const wire::Plane& plane : view.planes) {
    PlaneBlocks blocks{next, 0, 0};
    for (const wire::IndexEntry& entry : entries.subspan(next, plane.block_count())) {
      blocks.stored_bytes_max = std::max(blocks.stored_bytes_max, entry.stored_length());
      if (entry.codec() != 0) blocks.decoded_bytes_max = std::max(blocks.decoded_bytes_max, entry.decoded_length());
    }
    planes.push_back(blocks);
    next += plane.block_count();
  }
  return planes;
}

}  // namespace

Result<std::shared_ptr<const File>> File::open(std::unique_ptr<Source> source, const OpenOptions& options, Head head) {
  CDNA_TRY(check_sha256_kernel());
  CDNA_TRY(check_isa());
  const std::string name(source->name());
  std::shared_ptr<File> file(new File(options));
  file->source_ = std::move(source);
  auto result = file->read_ends(options);
  if (result) result = file->read_footer();
  if (result && head == Head::checked) result = file->check_head();
  if (!result) {
    result.error().file = name;
    return std::move(result).error();
  }
  return std::shared_ptr<const File>(std::move(file));
}

File::~File() {
  for (std::uint32_t i = 0; touched_ != nullptr && i < footer_.item_count(); ++i) delete touched_[i].load();
}

Result<void> File::read_ends(const OpenOptions& options) {
  const bool mapped = !source_->mapping().empty();
  CDNA_CHECK(options.trust != Trust::zero_copy || mapped, Code::bad_argument, "",
             "zero-copy needs a mapping, and this source is read with " + std::string(source_->backend()));
  zero_copy_ = mapped && options.trust != Trust::strict;
  const std::uint64_t size = source_->size_bytes();
  const std::vector<std::byte> last =
      CDNA_TRY(read(size - std::min<std::uint64_t>(size, kTailBytes), std::min<std::uint64_t>(size, kTailBytes)));
  const std::vector<std::byte> first = CDNA_TRY(read(0, std::min<std::uint64_t>(size, kHeadMagic.size())));
  tail_ = CDNA_TRY(parse_tail({size, first, last}, options.expected_root, options.limits));
  root_ = digest_in(tail_.root());
  return {};
}

Result<void> File::read_footer() {
  std::vector<std::byte> bytes = CDNA_TRY(read(tail_.footer_offset(), tail_.footer_length()));
  footer_ = CDNA_TRY(Footer::parse(std::move(bytes), tail_));
  touched_ = std::make_unique<std::atomic<TouchedItem*>[]>(footer_.item_count());
  return {};
}

Result<void> File::check_head() const {
  const std::vector<std::byte> head = CDNA_TRY(read(0, kHeadBytes));
  return cdna::check_head(head, tail_);
}

Result<std::vector<std::byte>> File::read(std::uint64_t offset, std::uint64_t size) const {
  std::vector<std::byte> bytes(size);
  CDNA_TRY(read_into(offset, bytes));
  return bytes;
}

Result<void> File::read_into(std::uint64_t offset, std::span<std::byte> out) const {
  const Stopwatch reading(counters_.read_ns);
  auto result = source_->read_at(offset, out);
  if (result) counters_.bytes_read += out.size();
  return result;
}

Result<void> File::populate(std::uint64_t offset, std::uint64_t size) const {
  const Stopwatch reading(counters_.read_ns);
  return source_->populate(offset, size);
}

Error File::placed(Error error, std::uint32_t item) const {
  error.file = source_->name();
  error.item = footer_.item(item).name;
  return error;
}

Result<const TouchedItem*> File::touch(std::uint32_t item) const {
  if (const TouchedItem* known = touched_[item].load(std::memory_order_acquire)) return known;
  auto loaded = load_index(item);
  if (!loaded) return placed(std::move(loaded).error(), item);
  TouchedItem* expected = nullptr;
  // Two threads may load the same index; the first to publish it wins.
  if (touched_[item].compare_exchange_strong(expected, loaded->get(), std::memory_order_acq_rel))
    return static_cast<const TouchedItem*>((*loaded).release());
  return static_cast<const TouchedItem*>(expected);
}

Result<std::unique_ptr<TouchedItem>> File::load_index(std::uint32_t item) const {
  const ItemView view = footer_.item(item);
  CDNA_CHECK(view.item->kind() != kMetadata || view.dims[0] <= kMetadataBytesMax, Code::limit, "M1",
             "the metadata is over 64 MiB");
  auto touched = std::make_unique<TouchedItem>(view.item->entry_count());
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(touched->entries));
  if (!bytes.empty()) CDNA_TRY(read_into(view.item->index_offset(), bytes));
  CDNA_TRY(verify_index(view, touched->entries));
  CDNA_TRY(check_decoded_limit(view, touched->entries));
  touched->filters_known = check_filters(view, touched->entries).has_value();
  touched->planes = planes_of(view, touched->entries);
  return touched;
}

Result<void> File::check_decoded_limit(const ItemView& view, std::span<const wire::IndexEntry> entries) const {
  std::size_t next = 0;
  for (const wire::Plane& plane : view.planes) {
    std::uint64_t decoded = 0;
    for (std::uint64_t block = 0; block < plane.block_count(); ++block) decoded += entries[next++].decoded_length();
    CDNA_CHECK(decoded <= limits_.tensor_decoded_bytes_max, Code::limit, "",
               "a plane decodes to " + std::to_string(decoded) + " bytes, over the caller's limit");
  }
  return {};
}

Result<void> File::verify_index(const ItemView& view, std::span<const wire::IndexEntry> entries) const {
  const Stopwatch verifying(counters_.verify_ns);
  counters_.bytes_hashed += entries.size_bytes();
  return check_index(view, entries);
}

Result<void> File::verify_stored(const wire::IndexEntry& entry, std::span<const std::byte> bytes) const {
  const Stopwatch verifying(counters_.verify_ns);
  counters_.bytes_hashed += bytes.size();
  ++counters_.blocks_verified;
  CDNA_CHECK(bulk_digest(bytes) == digest_in(entry.digest()), Code::corrupt, "B1",
             "the block does not match its digest");
  return {};
}

Result<TouchedPlane> File::touch(std::uint32_t item, std::uint32_t plane) const {
  const TouchedItem* const touched = CDNA_TRY(touch(item));
  return TouchedPlane{item, plane, &footer_.item(item).planes[plane], touched, touched->planes[plane].first_entry};
}

// A block that has not been verified, or is read anew at each use.
Result<std::span<const std::byte>> File::verified_block(const TouchedPlane& plane, std::uint64_t block,
                                                        std::span<std::byte> buffer) const {
  const std::uint64_t number = plane.first_entry + block;
  const BlockBits& bits = plane.touched->bits;
  const std::uint64_t size = plane.entry(block).stored_length();
  const std::uint64_t offset = plane.offset_of(block);
  const auto located = [&](Error error) {
    error.plane = static_cast<std::int32_t>(plane.number);
    error.block = static_cast<std::int64_t>(block);
    error.offset = offset;
    return placed(std::move(error), plane.item);
  };
  if (bits.failed(number)) return located(fail(Code::corrupt, "B1", "the block does not match its digest"));
  std::span<const std::byte> bytes;
  if (zero_copy_) {
    bytes = source_->mapping().subspan(offset, size);
    if (auto result = populate(offset, size); !result) return located(std::move(result).error());
  } else {
    const std::span<std::byte> copy = buffer.first(size);
    if (auto result = read_into(offset, copy); !result) return located(std::move(result).error());
    bytes = copy;
  }
  if (auto result = verify_stored(plane.entry(block), bytes); !result) {
    plane.touched->bits.set_failed(number);
    return located(std::move(result).error());
  }
  plane.touched->bits.set_verified(number);
  return bytes;
}

Result<const CodebookTables*> File::tables(std::uint32_t item) const {
  const TouchedItem* const touched = CDNA_TRY(touch(item));
  if (const CodebookTables* known = touched->tables.load(std::memory_order_acquire)) return known;
  auto loaded = load_codebook_tables(*this, item);
  if (!loaded) return placed(std::move(loaded).error(), item);
  const CodebookTables* expected = nullptr;
  auto owned = std::make_unique<const CodebookTables>(*std::move(loaded));
  if (touched->tables.compare_exchange_strong(expected, owned.get(), std::memory_order_acq_rel)) return owned.release();
  return expected;
}

bool File::reserve_kept(std::uint64_t bytes) const {
  constexpr std::uint64_t kKeptBytesMax = std::uint64_t{64} << 20;
  std::uint64_t before = kept_bytes_.load(std::memory_order_relaxed);
  do {
    if (bytes > kKeptBytesMax - before) return false;
  } while (!kept_bytes_.compare_exchange_weak(before, before + bytes, std::memory_order_relaxed));
  return true;
}

Result<std::shared_ptr<const FinishTables>> File::finish_tables(std::uint32_t item) const {
  if (!has_finish_tables(footer_.item(item))) return std::shared_ptr<const FinishTables>();
  SharedFinishTables& shared = CDNA_TRY(touch(item))->finish_tables;
  const std::lock_guard lock(shared.mutex);
  if (std::shared_ptr<const FinishTables> known = shared.used.lock()) return known;
  auto loaded = load_finish_tables(*this, item);
  if (!loaded) return placed(std::move(loaded).error(), item);
  const auto tables = std::make_shared<const FinishTables>(*std::move(loaded));
  shared.used = tables;
  if (reserve_kept(tables->bytes())) shared.kept = tables;
  return tables;
}

}  // namespace cdna
