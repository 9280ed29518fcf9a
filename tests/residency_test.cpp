// Where a tensor's bytes are: planes as one pointer, rows asked for ahead, given back, and pinned.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "codebook_file.hpp"
#include "fault_file_system.hpp"
#include "sample_file.hpp"
#include "temporary_folder.hpp"

namespace {

namespace fs = std::filesystem;
using cdna::Code;
using cdna::OpenOptions;
using cdna::Reader;
using cdna::Tensor;
using cdna::test::must;
using cdna::test::save_file;
using cdna::test::TemporaryFolder;
using Bytes = std::vector<std::byte>;

constexpr std::uint64_t kSeed = 90210;

struct Extent {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  bool operator==(const Extent&) const = default;
  auto operator<=>(const Extent&) const = default;
};

Reader open_memory(const Bytes& file, cdna::Trust trust = cdna::Trust::zero_copy) {
  OpenOptions options;
  options.trust = trust;
  return must(Reader::open(cdna::memory_source(file), options));
}

Bytes load_file(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// Group scales, outliers and row scales beside the codes; several blocks of codes, which are embeddings' (256 KiB).
constexpr std::uint64_t kRows = 1500;
constexpr std::uint64_t kCols = 1024;

const Bytes& codebook_file() {
  static const Bytes file = [] {
    const Bytes source = cdna::test::bytes_of(cdna::DType::f32, cdna::test::heavy_values(kSeed, kRows * kCols));
    const cdna::CodebookOptions options = must(cdna::parse_preset("cb8g64,outliers=0.002")).codebook;
    return cdna::test::write_file({}, [&](cdna::Writer& writer) {
      must(writer.add_codebook({"w", cdna::DType::f32, {kRows, kCols}, cdna::Role::embedding}, options,
                               cdna::test::reader_of(source)));
      must(writer.add_exact({"z", cdna::DType::f32, {kRows, kCols}, cdna::Role::embedding, cdna::Codec::zstd},
                            cdna::test::reader_of(source)));
    });
  }();
  return file;
}

constexpr std::uint16_t kCodes = 2;
constexpr std::uint16_t kOutliers = 7;
constexpr std::uint16_t kIgnorable = 0x8000;

std::uint32_t plane_of(const Tensor& tensor, std::uint16_t role) {
  for (std::uint32_t i = 0; i < tensor.plane_count(); ++i)
    if (tensor.plane(i).role == role) return i;
  throw std::runtime_error("no such plane");
}

// Where the blocks lie that cover rows [begin, end) of a plane, by the index of the file (spec/format.md, section 9).
Extent covering(const Bytes& file, const Tensor& tensor, std::uint32_t number, std::uint64_t begin, std::uint64_t end) {
  std::uint64_t first_entry = 0;
  for (std::uint32_t i = 0; i < number; ++i) first_entry += tensor.plane(i).block_count;
  const cdna::PlaneInfo plane = tensor.plane(number);
  const std::uint64_t rows_per_block = plane.scope == 2 ? tensor.plane(0).rows_per_block : plane.rows_per_block;
  const bool whole = plane.scope == 0;
  const std::uint64_t first = whole ? 0 : begin / rows_per_block;
  const std::uint64_t last = whole ? plane.block_count - 1 : (end - 1) / rows_per_block;
  const auto entry = [&](std::uint64_t block) {
    return file.data() + tensor.index_offset() + 64 * (first_entry + block);
  };
  const auto offset = [&](std::uint64_t block) { return plane.offset + cdna::test::load<std::uint64_t>(entry(block)); };
  return {offset(first), offset(last) + cdna::test::load<std::uint32_t>(entry(last) + 8)};
}

std::vector<Extent> covering_planes(const Bytes& file, const Tensor& tensor, std::uint64_t begin, std::uint64_t end) {
  std::vector<Extent> extents;
  for (std::uint32_t i = 0; i < tensor.plane_count(); ++i)
    if ((tensor.plane(i).role & kIgnorable) == 0 && tensor.plane(i).block_count > 0 && begin < end)
      extents.push_back(covering(file, tensor, i, begin, end));
  return extents;
}

std::uint64_t page_bytes() { return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)); }

std::set<std::uint64_t> pages_of(const std::vector<Extent>& extents) {
  std::set<std::uint64_t> pages;
  for (const Extent& extent : extents)
    for (std::uint64_t page = extent.begin / page_bytes(); page * page_bytes() < extent.end; ++page) pages.insert(page);
  return pages;
}

}  // namespace

// ---- Whole planes ----

TEST_CASE("residency: plane_bytes() is the plane in the mapping, of every good file, where all blocks are raw") {
  std::uint64_t raw = 0;
  std::uint64_t compressed = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(CDNA_SOURCE_DIR) / "spec" / "vectors" / "good")) {
    if (entry.path().extension() != ".cdna") continue;
    INFO(entry.path().filename().string());
    const Bytes file = load_file(entry.path());
    const Reader reader = open_memory(file);
    for (std::uint32_t i = 0; i < reader.item_count(); ++i) {
      const cdna::Item item = reader.item(i);
      for (std::uint32_t number = 0; number < item.plane_count(); ++number) {
        const cdna::PlaneInfo plane = item.plane(number);
        const std::uint64_t verified = reader.statistics().blocks_verified;
        const auto bytes = item.plane_bytes(number);
        if (plane.layout > 1) {
          CHECK(bytes.error().code == Code::unsupported);
        } else if (plane.codecs > 1) {
          REQUIRE_FALSE(bytes);
          CHECK(bytes.error().code == Code::bad_argument);
          CHECK(bytes.error().plane == static_cast<std::int32_t>(number));
          CHECK(reader.statistics().blocks_verified == verified);
          ++compressed;
        } else if (bytes) {
          CHECK(bytes->data() == file.data() + plane.offset);
          CHECK(bytes->size() == plane.stored_bytes);
          CHECK(reader.statistics().blocks_verified == verified + plane.block_count);  // Of no other plane.
          ++raw;
        } else {
          CHECK(must(item.filters(number)) != 1);  // A filter that is not known.
        }
      }
    }
  }
  CHECK(raw > 100);
  CHECK(compressed > 10);
}

TEST_CASE("residency: the bytes of a codebook tensor's planes are what its blocks are made of") {
  const Reader reader = open_memory(codebook_file());
  const Tensor tensor = reader.find("w").value();
  REQUIRE(tensor.plane(0).block_count == 6);
  std::vector<std::span<const std::byte>> planes;
  for (std::uint32_t i = 0; i < tensor.plane_count(); ++i) planes.push_back(must(tensor.plane_bytes(i)));
  const auto codes = planes[plane_of(tensor, kCodes)];
  const auto row_scales = planes[plane_of(tensor, 4)];
  const auto group_scales = planes[plane_of(tensor, 5)];
  const auto outliers = planes[plane_of(tensor, kOutliers)];
  CHECK(codes.size() == kRows * kCols);
  CHECK(row_scales.size() == 4 * kRows);
  CHECK(group_scales.size() == kRows * kCols / 64);
  std::uint64_t at = 0;  // Of the next block's outliers.
  cdna::BlockRange range = must(tensor.blocks());
  const auto equal = [](std::span<const std::byte> a, std::span<const std::byte> b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  };
  for (const cdna::Result<cdna::Block>& block : range) {
    REQUIRE(block);
    REQUIRE(block->outlier_count > 0);
    CHECK(equal(block->data, codes.subspan(block->row_begin * kCols, block->row_count * kCols)));
    CHECK(equal(std::as_bytes(block->row_scales), row_scales.subspan(4 * block->row_begin, 4 * block->row_count)));
    CHECK(equal(block->group_scales, group_scales.subspan(block->row_begin * 16, block->row_count * 16)));
    CHECK(equal(block->outlier_values, outliers.subspan(at, 4 * block->outlier_count)));
    CHECK(equal(block->outlier_positions, outliers.subspan(at + 4 * block->outlier_count, 4 * block->outlier_count)));
    at = (at + 8 * block->outlier_count + 63) / 64 * 64;
  }
  CHECK((outliers.size() + 63) / 64 * 64 == at);
}

TEST_CASE("residency: plane_bytes() hands out nothing that is damaged, between blocks neither") {
  const Reader good = open_memory(codebook_file());
  const Tensor tensor = good.find("w").value();
  const std::uint32_t outliers = plane_of(tensor, kOutliers);
  // A block of outliers behind which there is a gap.
  const std::uint64_t block_rows = tensor.plane(0).rows_per_block;
  std::uint64_t before = 0;
  Extent gap_after;
  do {
    REQUIRE((before + 1) * block_rows < kRows);
    gap_after = covering(codebook_file(), tensor, outliers, before * block_rows, before * block_rows + 1);
    ++before;
  } while (gap_after.end % 64 == 0);
  struct Case {
    std::uint64_t place;
    std::uint32_t plane;
    const char* rule;
    std::int64_t block;
  };
  const std::uint64_t third_block = 2 * kCols * block_rows;
  for (const Case& each : {Case{tensor.plane(0).offset + third_block, 0, "B1", 2},
                           Case{gap_after.begin, outliers, "B1", static_cast<std::int64_t>(before) - 1},
                           Case{gap_after.end, outliers, "G1", static_cast<std::int64_t>(before)}}) {
    Bytes file = codebook_file();
    file[each.place] ^= std::byte{1};
    const Reader reader = open_memory(file);
    for (std::uint32_t i = 0; i < tensor.plane_count(); ++i) {
      const auto bytes = reader.find("w")->plane_bytes(i);
      CHECK(bytes.has_value() == (i != each.plane));
      if (bytes) continue;
      CHECK(bytes.error().code == Code::corrupt);
      CHECK(std::string(bytes.error().rule) == each.rule);
      CHECK(bytes.error().item == "w");
      CHECK(bytes.error().plane == static_cast<std::int32_t>(each.plane));
      CHECK(bytes.error().block == each.block);
      CHECK(bytes.error().offset <= each.place);
    }
  }
}

TEST_CASE("residency: plane_bytes() checks padding bits, and needs a mapping and zero-copy") {
  for (const char* const name : {"E4_codes", "E4_codes_first_row", "E4_f4"}) {
    const Bytes file =
        load_file(fs::path(CDNA_SOURCE_DIR) / "spec" / "vectors" / "bad" / (std::string(name) + ".cdna"));
    const Reader reader = open_memory(file);
    std::uint64_t found = 0;
    for (std::uint32_t i = 0; i < reader.item_count(); ++i) {
      if (reader.item(i).plane_count() == 0) continue;
      const auto bytes = reader.item(i).plane_bytes(0);
      found += !bytes && std::string(bytes.error().rule) == "E4";
    }
    CHECK(found > 0);
  }
  const Reader strict = open_memory(codebook_file(), cdna::Trust::strict);
  const Reader unmapped = must(Reader::open(cdna::memory_source(codebook_file(), false)));
  for (const Reader& reader : {strict, unmapped}) {
    const auto bytes = reader.find("w")->plane_bytes(0);
    REQUIRE_FALSE(bytes);
    CHECK(bytes.error().code == Code::bad_argument);
    CHECK(bytes.error().item == "w");
  }
}

// ---- Ahead and back ----

namespace {

struct AdviceLog {
  std::vector<Extent> prefetched;
  std::vector<Extent> released;
};

// Notes what it is told, and has no mapping.
class NotingSource final : public cdna::Source {
 public:
  NotingSource(const Bytes& file, AdviceLog& log) : file_(file), log_(log) {}
  std::uint64_t size_bytes() const override { return file_.size(); }
  cdna::Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    std::copy_n(file_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  }
  void prefetch(std::uint64_t offset, std::uint64_t size) const override {
    log_.prefetched.push_back({offset, offset + size});
  }
  void release(std::uint64_t offset, std::uint64_t size) const override {
    log_.released.push_back({offset, offset + size});
  }

 private:
  const Bytes& file_;
  AdviceLog& log_;
};

// Whether a page of this process is in memory: bit 63 of its entry (proc_pid_pagemap(5)).
bool is_present(const void* address) {
  const int pagemap = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  std::uint64_t entry = 0;
  const auto at = static_cast<off_t>(reinterpret_cast<std::uintptr_t>(address) / page_bytes() * sizeof entry);
  const ssize_t count = ::pread(pagemap, &entry, sizeof entry, at);
  ::close(pagemap);
  REQUIRE(count == sizeof entry);
  return entry >> 63 != 0;
}

}  // namespace

TEST_CASE("residency: prefetch() and evict() name the blocks that cover the rows, of every plane, and read none") {
  AdviceLog log;
  const Reader reader = must(Reader::open(std::make_unique<NotingSource>(codebook_file(), log)));
  cdna::test::Random random(kSeed);
  CAPTURE(kSeed);
  for (const char* const name : {"w", "z"}) {
    const Tensor tensor = reader.find(name).value();
    REQUIRE(tensor.prefetch(0, 0));
    REQUIRE(log.prefetched.empty());
    for (int turn = 0; turn < 50; ++turn) {
      const std::uint64_t begin = random.below(kRows);
      const std::uint64_t end = begin + 1 + random.below(kRows - begin);
      INFO(name << ", rows " << begin << " to " << end);
      log = {};
      REQUIRE(tensor.prefetch(begin, end));
      const std::vector<Extent> expected = covering_planes(codebook_file(), tensor, begin, end);
      CHECK(log.prefetched == expected);
      CHECK(log.released.empty());
      REQUIRE(tensor.evict(begin, end));
      CHECK(log.released == expected);
    }
    log = {};
  }
  CHECK(reader.statistics().blocks_verified == 0);
}

TEST_CASE("residency: files that are read are advised, and what comes of it is no error") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, codebook_file());
  for (const int failure : {0, EINVAL}) {
    FaultFileSystem file_system;
    file_system.fail_only = "fadvise";
    file_system.fail_at = failure == 0 ? FaultFileSystem::kNever : 0;
    file_system.fail_count = 100;
    file_system.fail_errno = failure;
    OpenOptions options;
    options.io = cdna::Io::pread;
    options.file_system = &file_system;
    const Reader reader = must(Reader::open(path, options));
    const Tensor tensor = reader.find("w").value();
    CHECK(tensor.prefetch(0, kRows));
    CHECK(file_system.count_of("fadvise") == 6);  // Codes, codebook, row and group scales, scale table, outliers.
    CHECK(tensor.evict(0, kRows));
    CHECK(file_system.count_of("fadvise") == 12);
    CHECK(tensor.verify());
  }
}

TEST_CASE("residency: evicted rows leave this process's memory, and come back verified") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, codebook_file());
  OpenOptions options;
  options.io = cdna::Io::mmap;
  const Reader reader = must(Reader::open(path, options));
  const Tensor tensor = reader.find("w").value();
  std::vector<float> values(kRows * kCols);
  const auto read = [&] {
    REQUIRE(tensor.read_rows(0, kRows, cdna::DType::f32, std::as_writable_bytes(std::span(values))));
  };
  read();
  const std::vector<float> first = values;
  const std::set<std::uint64_t> pages = pages_of(covering_planes(codebook_file(), tensor, 0, kRows));
  const auto present = [&] {
    return std::count_if(pages.begin(), pages.end(), [&](std::uint64_t page) {
      return is_present(reader.source().mapping().data() + page * page_bytes());
    });
  };
  CHECK(static_cast<std::size_t>(present()) == pages.size());
  const cdna::ReadStatistics before = reader.statistics();
  REQUIRE(tensor.evict(0, kRows));
  CHECK(present() == 0);
  read();
  CHECK(values == first);
  CHECK(reader.statistics().blocks_verified == before.blocks_verified);
}

TEST_CASE("residency: advice about a tensor that cannot be decoded, or whose index is damaged, is an error") {
  Bytes file = codebook_file();
  file[open_memory(codebook_file()).find("w")->index_offset() + 40] ^= std::byte{1};
  const Reader reader = open_memory(file);
  const Tensor tensor = reader.find("w").value();
  CHECK(tensor.prefetch(0, 1).error().code == Code::corrupt);
  CHECK(tensor.evict(0, 1).error().code == Code::corrupt);
  CHECK(tensor.pin(0, 1).error().code == Code::corrupt);
}

// ---- Pins ----

namespace {

// Knows which pages are locked, as the kernel does, and objects to what is done twice. Can fail.
class LockingFileSystem : public cdna::FileSystem {
 public:
  int fail_errno = 0;  // Of calls of mlock from number fail_at on.
  std::uint64_t fail_at = 0;
  std::uint64_t calls = 0;
  std::set<std::uintptr_t> locked;
  bool misused = false;  // A page was locked that was, or unlocked that was not.

  int mlock(const void* begin, std::size_t size) override {
    if (fail_errno != 0 && calls++ >= fail_at) return -fail_errno;
    for_pages(begin, size, [this](std::uintptr_t page) { misused = !locked.insert(page).second || misused; });
    return 0;
  }
  int munlock(const void* begin, std::size_t size) override {
    for_pages(begin, size, [this](std::uintptr_t page) { misused = locked.erase(page) == 0 || misused; });
    return 0;
  }

 private:
  template <class Work>
  static void for_pages(const void* begin, std::size_t size, const Work& work) {
    const auto address = reinterpret_cast<std::uintptr_t>(begin);
    for (std::uintptr_t page = address / page_bytes(); page * page_bytes() < address + size; ++page) work(page);
  }
};

struct PinnedFile {
  TemporaryFolder folder;
  LockingFileSystem file_system;
  std::string path = folder / "model.cdna";

  PinnedFile() { save_file(path, codebook_file()); }
  Reader open(std::uint64_t pinned_bytes_max, cdna::Io io = cdna::Io::mmap) {
    OpenOptions options;
    options.io = io;
    options.file_system = &file_system;
    options.pinned_bytes_max = pinned_bytes_max;
    return must(Reader::open(path, options));
  }
};

}  // namespace

TEST_CASE("residency: pins lock the pages of their rows, each once, as long as one of them is there") {
  PinnedFile file;
  constexpr std::uint64_t kPagesMax = 300;  // Of about 400.
  const Reader reader = file.open(kPagesMax * page_bytes());
  const Tensor tensors[] = {reader.find("w").value(), reader.find("z").value()};
  const std::uintptr_t base = reinterpret_cast<std::uintptr_t>(reader.source().mapping().data()) / page_bytes();
  struct Held {
    cdna::Pin pin;
    std::set<std::uint64_t> pages;
  };
  std::vector<Held> pins;
  cdna::test::Random random(kSeed);
  CAPTURE(kSeed);
  std::uint64_t refused = 0;
  std::uint64_t failed = 0;
  for (int turn = 0; turn < 2000; ++turn) {
    if (pins.size() > 8 || (!pins.empty() && random.below(3) == 0)) {
      std::swap(pins[random.below(pins.size())], pins.back());
      pins.pop_back();
    } else {
      const Tensor& tensor = tensors[random.below(2)];
      const std::uint64_t begin = random.below(kRows + 1);
      const std::uint64_t end = begin + random.below(std::min<std::uint64_t>(600, kRows - begin) + 1);
      const std::set<std::uint64_t> pages = pages_of(covering_planes(codebook_file(), tensor, begin, end));
      std::set<std::uint64_t> all = pages;
      for (const Held& held : pins) all.insert(held.pages.begin(), held.pages.end());
      file.file_system.calls = 0;
      file.file_system.fail_errno = random.below(4) == 0 ? ENOMEM : 0;
      file.file_system.fail_at = random.below(4);
      auto pin = tensor.pin(begin, end);
      if (all.size() > kPagesMax) {
        REQUIRE(pin.error().code == Code::limit);
        ++refused;
      } else if (file.file_system.fail_errno != 0 && file.file_system.calls > file.file_system.fail_at) {
        REQUIRE(pin.error().code == Code::io);
        REQUIRE(pin.error().os_errno == ENOMEM);
        ++failed;
      } else {
        INFO((pin ? "" : pin.error().describe()));
        REQUIRE(pin);
        REQUIRE(pin->bytes() == pages.size() * page_bytes());
        pins.push_back({*std::move(pin), pages});
      }
    }
    std::set<std::uintptr_t> expected;
    for (const Held& held : pins)
      for (const std::uint64_t page : held.pages) expected.insert(base + page);
    REQUIRE(file.file_system.locked == expected);
    REQUIRE_FALSE(file.file_system.misused);
  }
  CHECK(refused > 50);
  CHECK(failed > 50);
  pins.clear();
  CHECK(file.file_system.locked.empty());
}

TEST_CASE("residency: a pin keeps the file open, and moves") {
  PinnedFile file;
  std::optional<cdna::Pin> pin;
  {
    const Reader reader = file.open(1 << 24);
    pin.emplace(must(reader.find("w")->pin(0, 10)));
  }
  CHECK(file.file_system.locked.size() * page_bytes() == pin->bytes());
  cdna::Pin other = *std::move(pin);
  CHECK(pin->bytes() == 0);
  pin.reset();
  CHECK(file.file_system.locked.size() * page_bytes() == other.bytes());
  {
    const Reader reader = file.open(1 << 24);
    other = must(reader.find("z")->pin(kRows - 1, kRows));  // What it held before is let go.
    CHECK(file.file_system.locked.size() * page_bytes() == other.bytes());
  }
  const cdna::Pin last = std::move(other);
  CHECK_FALSE(file.file_system.misused);
}

TEST_CASE("residency: without leave nothing is pinned, and the error says how many bytes it would take") {
  PinnedFile file;
  const Reader reader = file.open(0);
  const Tensor tensor = reader.find("w").value();
  const auto refused = tensor.pin(0, kRows);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Code::limit);
  const std::uint64_t bytes = pages_of(covering_planes(codebook_file(), tensor, 0, kRows)).size() * page_bytes();
  CHECK(refused.error().message.find("needs " + std::to_string(bytes) + " bytes") != std::string::npos);
  CHECK(refused.error().item == "w");
  CHECK(refused.error().file == file.path);
  CHECK(reader.statistics().blocks_verified == 0);
  CHECK(tensor.pin(5, 5)->bytes() == 0);
}

TEST_CASE("residency: damaged rows are not pinned, and where nothing can be locked that is said") {
  PinnedFile file;
  Bytes damaged = codebook_file();
  damaged[open_memory(codebook_file()).find("w")->plane(0).offset] ^= std::byte{1};
  save_file(file.path, damaged);
  const Reader reader = file.open(1 << 30);
  CHECK(reader.find("w")->pin(0, 1).error().code == Code::corrupt);
  CHECK(file.file_system.locked.empty());
  CHECK(reader.find("w")->pin(kRows - 1, kRows).has_value());
  CHECK(file.file_system.locked.empty());

  OpenOptions options;
  options.pinned_bytes_max = 1 << 30;
  const Reader memory = must(Reader::open(cdna::memory_source(codebook_file()), options));
  options.trust = cdna::Trust::strict;
  options.file_system = &file.file_system;
  options.io = cdna::Io::mmap;
  const Reader strict = must(Reader::open(file.path, options));
  for (const Reader& other : {memory, strict, file.open(1 << 30, cdna::Io::pread)})
    CHECK(other.find("w")->pin(kRows - 1, kRows).error().code == Code::unsupported);
  CHECK(file.file_system.locked.empty());
}

// Sanitizers make mlock() a call that does nothing.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CDNA_LOCKS_PAGES 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define CDNA_LOCKS_PAGES 0
#endif
#endif
#ifndef CDNA_LOCKS_PAGES
#define CDNA_LOCKS_PAGES 1
#endif

#if CDNA_LOCKS_PAGES
TEST_CASE("residency: the system counts the pages that are locked") {
  const auto locked_bytes = [] {
    std::ifstream status("/proc/self/status");
    std::string line;
    while (std::getline(status, line))
      if (line.rfind("VmLck:", 0) == 0) return std::stoull(line.substr(6)) << 10;
    throw std::runtime_error("/proc/self/status has no VmLck");
  };
  const TemporaryFolder folder;
  save_file(folder / "model.cdna", codebook_file());
  OpenOptions options;
  options.io = cdna::Io::mmap;
  options.pinned_bytes_max = 1 << 30;
  const Reader reader = must(Reader::open(folder / "model.cdna", options));
  const Tensor tensor = reader.find("z").value();
  const std::uint64_t before = locked_bytes();
  const auto pin = tensor.pin(0, 1);  // A block of 256 KiB before compression: below any usual RLIMIT_MEMLOCK.
  REQUIRE(pin);
  CHECK(locked_bytes() == before + pin->bytes());
  REQUIRE(tensor.evict(0, kRows));  // Pinned pages stay.
  CHECK(is_present(reader.source().mapping().data() + tensor.plane(0).offset));
}
#endif
