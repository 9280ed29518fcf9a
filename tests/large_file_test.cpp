// Files beyond 2^31, 2^32 and 2^40 bytes: nearly all of them holes, with rows of their own where a number could
// overflow.
#include <fcntl.h>
#include <malloc.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <new>

#include "cdna/fsck.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/format/record.hpp"
#include "libcdna/format/tail.hpp"
#include "libcdna/hash/sha256.hpp"
#include "libcdna/write/packet_writer.hpp"
#include "libcdna/write/plane_plan.hpp"
#include "sample_file.hpp"

// ---- How much memory the process has from operator new, and had at most ----

namespace {

constinit std::atomic<std::size_t> heap_bytes{0};
constinit std::atomic<std::size_t> heap_peak{0};

}  // namespace

// Not inline: g++ would warn that what malloc gave goes to operator delete.
[[gnu::noinline]] void* operator new(std::size_t size) {
  void* const memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  const std::size_t now = heap_bytes += ::malloc_usable_size(memory);
  if (now > heap_peak) heap_peak = now;
  return memory;
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  try {
    return ::operator new(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  if (memory != nullptr) heap_bytes -= ::malloc_usable_size(memory);
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { ::operator delete(memory); }

namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;
using cdna::test::must;

constexpr std::uint64_t kKiB = 1024, kMiB = kKiB * kKiB, kGiB = kKiB * kMiB, kTiB = kKiB * kGiB;
constexpr std::uint64_t kRowBytes = 4096;
constexpr std::uint32_t kAlignment = 4096;
constexpr std::uint64_t kPlaneBegin = 4096;  // Of the first item: the head, then up to the alignment.

// ---- A file whose zeros are holes ----

// A folder on a file system that has holes and takes files of 2 TiB.
class SparseFolder {
 public:
  SparseFolder() {
    for (const fs::path& parent :
         {fs::temp_directory_path(), fs::path("/var/tmp"), fs::current_path(), fs::path("/dev/shm")}) {
      std::string pattern = (parent / "cdna-large-XXXXXX").string();
      if (::mkdtemp(pattern.data()) == nullptr) continue;
      path_ = pattern;
      if (takes_holes()) return;
      fs::remove_all(path_);
    }
    throw std::runtime_error(
        "neither $TMPDIR, /var/tmp, /dev/shm nor the current folder can hold a sparse file of 2 TiB");
  }
  ~SparseFolder() { fs::remove_all(path_); }
  std::string file() const { return (path_ / "large.cdna").string(); }

 private:
  bool takes_holes() const {
    const std::string path = (path_ / "probe").string();
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    struct stat info {};
    const bool taken =
        ::ftruncate(fd, static_cast<off_t>(2 * kTiB)) == 0 && ::fstat(fd, &info) == 0 && info.st_blocks < 1024;
    ::close(fd);
    fs::remove(path);
    return taken;
  }

  fs::path path_;
};

// Steps over `zeros` instead of writing it.
class HoleSink final : public cdna::Sink {
 public:
  HoleSink(const std::string& path, const Bytes& zeros)
      : fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)), zeros_(zeros) {}
  ~HoleSink() override { ::close(fd_); }
  cdna::Result<void> write(std::span<const std::byte> bytes) override {
    if (bytes.data() != zeros_.data()) {
      const auto count = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(position_));
      if (count != static_cast<ssize_t>(bytes.size())) throw std::runtime_error("cannot write a sparse file");
    }
    position_ += bytes.size();
    return {};
  }
  cdna::Result<void> commit() override { return {}; }

 private:
  int fd_;
  const Bytes& zeros_;
  std::uint64_t position_ = 0;
};

// ---- What the files hold ----

struct Layout {
  std::uint64_t plane_bytes;
  std::uint64_t block_bytes;
  std::vector<std::uint64_t> places;  // Bytes of the file whose rows, and the rows around them, are not zeros.

  std::uint64_t rows() const { return plane_bytes / kRowBytes; }
  std::uint64_t rows_per_block() const { return block_bytes / kRowBytes; }
  std::uint64_t row_at(std::uint64_t place) const {
    return std::min((std::max(place, kPlaneBegin) - kPlaneBegin) / kRowBytes, rows() - 1);
  }
  bool is_real(std::uint64_t row) const {
    return std::any_of(places.begin(), places.end(), [&](std::uint64_t place) {
      const std::uint64_t at = row_at(place);
      return row + 2 >= at && row <= at + 2;
    });
  }
  Bytes row(std::uint64_t number) const {
    return is_real(number) ? cdna::test::Random(number).bytes(kRowBytes) : Bytes(kRowBytes);
  }
};

cdna::ItemDraft draft_of(const std::string& name, std::uint64_t rows) {
  cdna::ItemDraft draft;
  draft.dims = {rows, kRowBytes};
  draft.name = name;
  draft.type = cdna::kExactEncoding;
  draft.item.mutate_kind(0);
  draft.item.mutate_dtype(static_cast<std::uint8_t>(cdna::DType::u8));
  draft.item.mutate_rank(2);
  draft.item.mutate_row_dims(1);
  draft.item.mutate_name_length(static_cast<std::uint16_t>(draft.name.size()));
  draft.item.mutate_type_length(static_cast<std::uint16_t>(draft.type.size()));
  return draft;
}

cdna::wire::Plane plane_of(std::uint64_t rows_per_block) {
  cdna::PlaneShape shape;
  shape.dtype = cdna::DType::u8;
  shape.row_entries = kRowBytes;
  shape.rows_per_block = static_cast<std::uint32_t>(rows_per_block);
  return cdna::make_plane(shape);
}

cdna::PreparedBlock prepare(Bytes bytes) {
  cdna::BlockEncoder encoder;
  return cdna::prepare_block(encoder, cdna::Codec::raw, std::move(bytes));
}

// A file in the making, as Writer::Session makes it.
struct FileInMaking {
  cdna::PositionedSink sink;
  cdna::PacketWalk walk{12};  // log2 of kAlignment.
  cdna::FooterBuilder footer;

  explicit FileInMaking(std::unique_ptr<cdna::Sink> to) : sink(std::move(to)) {
    must_do(sink.write(cdna::bytes_of(cdna::make_head(12))));
  }

  static void must_do(cdna::Result<void> result) {
    if (!result) throw std::runtime_error(result.error().describe());
  }

  void add(const std::string& name, const Layout& layout, const cdna::PreparedBlock& zeros) {
    cdna::PacketWriter packet(sink, kAlignment, draft_of(name, layout.rows()), {plane_of(layout.rows_per_block())});
    for (std::uint64_t row = 0; row < layout.rows(); row += layout.rows_per_block()) {
      const bool real = std::any_of(layout.places.begin(), layout.places.end(), [&](std::uint64_t place) {
        const std::uint64_t at = layout.row_at(place);
        return at + 2 >= row && at < row + layout.rows_per_block() + 2;
      });
      if (!real) {
        must_do(packet.append(0, zeros));
        continue;
      }
      Bytes block;
      for (std::uint64_t i = row; i < row + layout.rows_per_block(); ++i) {
        const Bytes bytes = layout.row(i);
        block.insert(block.end(), bytes.begin(), bytes.end());
      }
      must_do(packet.append(0, prepare(std::move(block))));
    }
    must_do(packet.finish(walk, footer));
  }

  void finish() {
    cdna::TailFields fields;
    fields.required_features = walk.required_features();
    fields.optional_features = walk.optional_features();
    fields.footer_offset = sink.position();
    const Bytes bytes = footer.build();
    fields.footer_bytes = bytes.size();
    fields.item_count = footer.item_count();
    fields.footer_digest = cdna::sha256(bytes);
    fields.align_log2 = 12;
    must_do(sink.write(bytes));
    must_do(sink.pad_to(cdna::align_up(sink.position(), cdna::kPacketAlignment)));
    must_do(sink.write(cdna::bytes_of(cdna::make_tail(fields))));
  }
};

// The large tensor, "large", and one of a block behind it, "behind".
Layout write_large(const std::string& path, const Layout& large) {
  const cdna::PreparedBlock zeros = prepare(Bytes(large.block_bytes));
  FileInMaking file(std::make_unique<HoleSink>(path, zeros.stored));
  file.add("large", large, zeros);
  Layout behind{large.block_bytes, large.block_bytes, {0}};
  file.add("behind", behind, zeros);
  file.finish();
  return behind;
}

void check_rows(const cdna::Reader& reader, const char* name, const Layout& layout, std::uint64_t begin,
                std::uint64_t end) {
  Bytes rows((end - begin) * kRowBytes, std::byte{0x77});
  const auto result = reader.find(name)->read_rows(begin, end, cdna::DType::u8, rows);
  INFO(name << ", rows " << begin << " to " << end << (result ? "" : ": " + result.error().describe()));
  REQUIRE(result);
  std::uint64_t wrong = 0;
  for (std::uint64_t row = begin; row < end; ++row) {
    const Bytes expected = layout.row(row);
    const auto from = rows.begin() + static_cast<std::ptrdiff_t>((row - begin) * kRowBytes);
    wrong += std::equal(expected.begin(), expected.end(), from) ? 0U : 1U;
  }
  CHECK(wrong == 0);
}

void check_file(const std::string& path, const Layout& large, const Layout& behind, cdna::Io io) {
  cdna::OpenOptions options;
  options.io = io;
  heap_peak = heap_bytes.load();
  const std::size_t before = heap_bytes;
  const cdna::Reader reader = must(cdna::Reader::open(path, options));
  const std::size_t opened = heap_peak - before;
  CHECK(opened < 64 * kKiB);  // Nothing of the index.
  CHECK(reader.file_bytes() == fs::file_size(path));
  CHECK(reader.find("large")->rows() == large.rows());
  CHECK(reader.find("large")->block_count() == large.plane_bytes / large.block_bytes);
  CHECK(reader.find("large")->source_bytes() == large.plane_bytes);
  for (const std::uint64_t place : large.places) {
    const std::uint64_t row = large.row_at(place);
    check_rows(reader, "large", large, row - std::min<std::uint64_t>(row, 4), std::min(row + 5, large.rows()));
  }
  check_rows(reader, "large", large, large.rows() / 3, large.rows() / 3 + 2);  // In a hole.
  check_rows(reader, "behind", behind, 0, behind.rows());
  CHECK(heap_peak - before < 64 * kMiB);
  std::printf("%s, %s: open takes %zu bytes of heap, all %zu\n", path.c_str(),
              std::string(reader.source().backend()).c_str(), opened, heap_peak - before);

  cdna::FsckOptions quick;
  quick.level = cdna::FsckLevel::quick;
  const cdna::FsckReport report = cdna::fsck(must(cdna::open_source(path, io)), quick);
  CHECK(report.complete);
  CHECK(report.valid);
  CHECK(report.problem_count == 0);
  CHECK(report.item_count == 2);
}

void check_large_file(const Layout& large) {
  const SparseFolder folder;
  const Layout behind = write_large(folder.file(), large);
  struct stat info {};
  REQUIRE(::stat(folder.file().c_str(), &info) == 0);
  REQUIRE(static_cast<std::uint64_t>(info.st_size) > large.plane_bytes);
  CHECK(static_cast<std::uint64_t>(info.st_blocks) * 512 < 512 * kMiB);
  for (const cdna::Io io : {cdna::Io::pread, cdna::Io::mmap}) check_file(folder.file(), large, behind, io);
  // A byte changed behind 2^32 is found there, and nowhere else.
  const std::uint64_t place = large.places[large.places.size() - 2];
  const int fd = ::open(folder.file().c_str(), O_RDWR | O_CLOEXEC);
  std::byte byte{};
  REQUIRE(::pread(fd, &byte, 1, static_cast<off_t>(place)) == 1);
  byte ^= std::byte{1};
  REQUIRE(::pwrite(fd, &byte, 1, static_cast<off_t>(place)) == 1);
  ::close(fd);
  const cdna::Reader reader = must(cdna::Reader::open(folder.file()));
  const std::uint64_t row = large.row_at(place);
  Bytes bytes(kRowBytes);
  const auto result = reader.find("large")->read_rows(row, row + 1, cdna::DType::u8, bytes);
  REQUIRE_FALSE(result);
  CHECK(std::string(result.error().rule) == "B1");
  CHECK(result.error().block == static_cast<std::int64_t>(row / large.rows_per_block()));
  CHECK(result.error().offset == kPlaneBegin + row / large.rows_per_block() * large.block_bytes);
  CHECK(reader.find("large")->read_rows(0, 1, cdna::DType::u8, bytes));
}

}  // namespace

TEST_CASE("large file: a file of 5 GiB is read right on both sides of 2^31 and 2^32") {
  constexpr std::uint64_t k2to31 = std::uint64_t{1} << 31;
  constexpr std::uint64_t k2to32 = std::uint64_t{1} << 32;
  check_large_file({5 * kGiB, kMiB, {0, k2to31 - 1, k2to31, k2to32 - 1, k2to32, 5 * kGiB}});
}

TEST_CASE("large file: a file of 1 TiB is read right at both ends, 2^31, 2^32 and 2^39") {
  constexpr std::uint64_t k2to31 = std::uint64_t{1} << 31;
  constexpr std::uint64_t k2to32 = std::uint64_t{1} << 32;
  constexpr std::uint64_t k2to39 = std::uint64_t{1} << 39;
  check_large_file({kTiB, 16 * kMiB, {0, k2to31, k2to32, k2to39, kTiB}});
}

TEST_CASE("large file: 16.7 million blocks cost nothing at open") {
  constexpr std::uint64_t kBlocks = std::uint64_t{1} << 24;
  const SparseFolder folder;
  const Bytes zeros(16 * kMiB);
  {
    // Planes and index are holes: reading rows would find that the index is not the one that the item states.
    FileInMaking file(std::make_unique<HoleSink>(folder.file(), zeros));
    cdna::ItemDraft draft = draft_of("large", kTiB / kRowBytes);
    cdna::wire::Plane plane = plane_of(kTiB / kBlocks / kRowBytes);
    plane.mutate_offset(kPlaneBegin);
    plane.mutate_stored_length(kTiB);
    plane.mutate_block_count(kBlocks);
    plane.mutate_codecs(1);
    draft.item.mutate_packet_offset(cdna::kHeadBytes);
    draft.item.mutate_plane_count(1);
    draft.item.mutate_entry_count(kBlocks);
    draft.item.mutate_index_offset(kPlaneBegin + kTiB);
    const std::uint64_t record_offset = kPlaneBegin + kTiB + sizeof(cdna::wire::IndexEntry) * kBlocks;
    while (file.sink.position() < record_offset) {
      const std::uint64_t left = record_offset - file.sink.position();
      FileInMaking::must_do(file.sink.write(std::span(zeros).first(std::min<std::uint64_t>(zeros.size(), left))));
    }
    const cdna::ItemView view{&draft.item, draft.dims, {&plane, 1}, draft.name, draft.type};
    FileInMaking::must_do(file.sink.write(cdna::append_record(view, 0, record_offset)));
    FileInMaking::must_do(file.walk.enter(draft.item));
    const std::uint64_t end = must(file.walk.check(view, record_offset, true));
    REQUIRE(end == file.sink.position());
    file.walk.leave(draft.item, end);
    file.footer.add(view);
    file.finish();
  }
  for (const cdna::Io io : {cdna::Io::pread, cdna::Io::mmap}) {
    cdna::OpenOptions options;
    options.io = io;
    heap_peak = heap_bytes.load();
    const std::size_t before = heap_bytes;
    const cdna::Reader reader = must(cdna::Reader::open(folder.file(), options));
    CHECK(heap_peak - before < 64 * kKiB);
    CHECK(reader.find("large")->block_count() == kBlocks);
    CHECK(reader.statistics().bytes_read < 8 * kKiB);
  }
}
