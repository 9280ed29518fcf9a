// Where a tensor's bytes are: asked for ahead, given back, pinned, or all of a plane as one pointer.
#include <algorithm>
#include <cassert>

#include "cdna/reader.hpp"
#include "libcdna/file.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/io/pages.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/plane_reader.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

// ---- Blocks that cover rows ----

// Blocks of a plane, some at least. They lie one after the other.
struct BlockRun {
  TouchedPlane plane;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  std::uint64_t offset() const { return plane.offset_of(begin); }
  std::uint64_t end_offset() const { return plane.offset_of(end - 1) + plane.entry(end - 1).stored_length(); }
};

// Requires: some rows, and a plane with blocks.
void cover_rows(BlockRun& run, const wire::Plane& first_plane, std::uint64_t begin, std::uint64_t end) {
  const wire::Plane& plane = *run.plane.plane;
  run.end = plane.block_count();
  if (plane.scope() == kWhole) return;
  // The blocks of scope 2 are those of plane 0.
  const wire::Plane& cut = plane.scope() == kPerBlock ? first_plane : plane;
  run.begin = block_at(cut, begin, 0);
  run.end = block_at(cut, end - 1, cut.row_entries() - 1) + 1;
}

// Of all planes that decoding needs. Errors: those of check_supported and File::touch.
Result<std::vector<BlockRun>> covering_blocks(const File& file, std::uint32_t item, std::uint64_t begin,
                                              std::uint64_t end) {
  const ItemView view = file.footer().item(item);
  if (auto result = check_supported(view); !result) return file.placed(std::move(result).error(), item);
  std::vector<BlockRun> runs;
  if (begin == end) return runs;
  for (std::uint32_t number = 0; number < view.planes.size(); ++number) {
    const wire::Plane& plane = view.planes[number];
    if (plane.block_count() == 0 || (plane.role() & kIgnorableRole) != 0) continue;
    BlockRun run{CDNA_TRY(file.touch(item, number))};
    cover_rows(run, view.planes[0], begin, end);
    runs.push_back(run);
  }
  return runs;
}

// ---- Pages ----

// Whole pages, ascending, those that touch or overlap in one.
std::vector<PageRun> pages_of(const std::vector<BlockRun>& blocks) {
  std::vector<PageRun> pages;
  for (const BlockRun& run : blocks) {
    if (run.offset() == run.end_offset()) continue;
    const std::uint64_t begin = run.offset() - run.offset() % page_bytes();
    pages.push_back({begin, align_up(run.end_offset(), page_bytes())});
  }
  std::sort(pages.begin(), pages.end(), [](const PageRun& a, const PageRun& b) { return a.begin < b.begin; });
  std::vector<PageRun> joined;
  for (const PageRun& run : pages) {
    if (!joined.empty() && run.begin <= joined.back().end) {
      joined.back().end = std::max(joined.back().end, run.end);
    } else {
      joined.push_back(run);
    }
  }
  return joined;
}

Result<void> verify_blocks(const File& file, const std::vector<BlockRun>& runs) {
  for (const BlockRun& run : runs) {
    for (std::uint64_t block = run.begin; block < run.end; ++block) {
      if (block + 1 < run.end) file.prefetch(run.plane, block + 1);
      CDNA_TRY(file.stored_block(run.plane, block, {}));
    }
  }
  return {};
}

// ---- Whole planes ----

Error at_block(const File& file, const TouchedPlane& plane, std::uint64_t block, Error error) {
  error.plane = static_cast<std::int32_t>(plane.number);
  error.block = static_cast<std::int64_t>(block);
  return file.placed(std::move(error), plane.item);
}

Result<void> check_raw(const File& file, const TouchedPlane& plane) {
  for (std::uint64_t block = 0; block < plane.plane->block_count(); ++block) {
    const wire::IndexEntry& entry = plane.entry(block);
    if (entry.codec() == 0 && entry.filter() == 0) continue;
    return at_block(file, plane, block,
                    fail(Code::bad_argument, "", "the block is compressed, so that the plane has no pointer",
                         plane.offset_of(block)));
  }
  return {};
}

// The bytes before a block that belong to none: no digest is theirs, but they are known to be zero.
Result<void> check_gap(const File& file, const TouchedPlane& plane, std::uint64_t block, std::uint64_t begin) {
  const std::span<const std::byte> gap = file.source().mapping().subspan(begin, plane.offset_of(block) - begin);
  const auto found = std::find_if(gap.begin(), gap.end(), [](std::byte byte) { return byte != std::byte{0}; });
  if (found == gap.end()) return {};
  const auto offset = begin + static_cast<std::uint64_t>(found - gap.begin());
  return at_block(file, plane, block, fail(Code::corrupt, "G1", "a byte between blocks is not zero", offset));
}

Result<std::span<const std::byte>> whole_plane(const File& file, std::uint32_t item, std::uint32_t number) {
  const TouchedPlane plane = CDNA_TRY(file.touch(item, number));
  CDNA_TRY(check_raw(file, plane));
  PlaneReader reader = CDNA_TRY(PlaneReader::create(file, item, number, plane.plane->block_count()));
  std::uint64_t end = plane.plane->offset();
  for (std::uint64_t block = 0; block < plane.plane->block_count(); ++block) {
    CDNA_TRY(reader.fetch(block));
    const std::uint64_t size = plane.entry(block).stored_length();
    if (size == 0) continue;
    CDNA_TRY(check_gap(file, plane, block, end));
    end = plane.offset_of(block) + size;
  }
  return file.source().mapping().subspan(plane.plane->offset(), plane.plane->stored_length());
}

}  // namespace

Result<std::span<const std::byte>> Item::plane_bytes(std::uint32_t index) const {
  return no_throw([&]() -> Result<std::span<const std::byte>> {
    assert(index < plane_count());
    const wire::Plane& plane = file_->footer().item(number_).planes[index];
    Result<void> allowed;
    if (!file_->zero_copy()) {
      allowed = fail(Code::bad_argument, "", "a plane has one pointer only in zero-copy mode");
    } else if (plane.layout() > kPacked) {
      allowed = fail(Code::unsupported, "U4", "the plane's layout is not known");
    }
    if (!allowed) {
      allowed.error().plane = static_cast<std::int32_t>(index);
      return file_->placed(std::move(allowed).error(), number_);
    }
    return whole_plane(*file_, number_, index);
  });
}

Result<void> Tensor::prefetch(std::uint64_t begin, std::uint64_t end) const {
  return no_throw([&]() -> Result<void> {
    assert(begin <= end && end <= rows());
    const std::vector<BlockRun> runs = CDNA_TRY(covering_blocks(*file_, number_, begin, end));
    for (const BlockRun& run : runs) file_->source().prefetch(run.offset(), run.end_offset() - run.offset());
    return {};
  });
}

Result<void> Tensor::evict(std::uint64_t begin, std::uint64_t end) const {
  return no_throw([&]() -> Result<void> {
    assert(begin <= end && end <= rows());
    const std::vector<BlockRun> runs = CDNA_TRY(covering_blocks(*file_, number_, begin, end));
    for (const BlockRun& run : runs) file_->source().release(run.offset(), run.end_offset() - run.offset());
    return {};
  });
}

// ---- Pin ----

struct Pin::Held {
  std::shared_ptr<const File> file;
  std::vector<PageRun> runs;

  Held(std::shared_ptr<const File> of, std::vector<PageRun> pages) : file(std::move(of)), runs(std::move(pages)) {}
  ~Held() { file->pinned_pages().let_go(file->source(), runs); }
};

Pin::Pin(std::unique_ptr<const Held> held) : held_(std::move(held)) {}
Pin::Pin(Pin&&) noexcept = default;
Pin& Pin::operator=(Pin&&) noexcept = default;
Pin::~Pin() = default;

std::uint64_t Pin::bytes() const {
  std::uint64_t bytes = 0;
  if (held_ != nullptr) {
    for (const PageRun& run : held_->runs) bytes += run.end - run.begin;
  }
  return bytes;
}

Result<Pin> Tensor::pin(std::uint64_t begin, std::uint64_t end) const {
  return no_throw([&]() -> Result<Pin> {
    assert(begin <= end && end <= rows());
    const std::vector<BlockRun> blocks = CDNA_TRY(covering_blocks(*file_, number_, begin, end));
    const auto named = [this](Error error) { return file_->placed(std::move(error), number_); };
    if (!file_->zero_copy()) return named(fail(Code::unsupported, "", "rows can be pinned only in zero-copy mode"));
    std::vector<PageRun> runs = pages_of(blocks);
    PinnedPages& pinned = file_->pinned_pages();
    if (auto fits = pinned.check(runs); !fits) return named(std::move(fits).error());
    CDNA_TRY(verify_blocks(*file_, blocks));
    // What remembers the pages is made first: after they are held nothing may fail.
    auto held = std::make_unique<Pin::Held>(file_->shared_from_this(), std::vector<PageRun>());
    if (auto result = pinned.hold(file_->source(), runs); !result) return named(std::move(result).error());
    held->runs = std::move(runs);
    return Pin(std::move(held));
  });
}

}  // namespace cdna
