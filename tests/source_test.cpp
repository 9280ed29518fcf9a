// Sources over descriptors of the caller's; files checked through an open reader.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <filesystem>
#include <fstream>

#include "cdna/fsck.hpp"
#include "fault_file_system.hpp"
#include "sample_file.hpp"
#include "temporary_folder.hpp"

namespace {

namespace fs = std::filesystem;
using cdna::Code;
using cdna::Io;
using cdna::open_source;
using cdna::Reader;
using cdna::test::must;
using cdna::test::save_file;
using cdna::test::TemporaryFolder;
using Bytes = std::vector<std::byte>;

// Closes itself, unless the test has.
struct Opened {
  int fd = -1;
  explicit Opened(int opened) : fd(opened) { REQUIRE(fd >= 0); }
  Opened(const Opened&) = delete;
  ~Opened() {
    if (fd >= 0) ::close(fd);
  }
};

std::uint64_t open_descriptors() {
  return static_cast<std::uint64_t>(std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
}

// Every item that can be decoded.
std::vector<Bytes> contents_of(const Reader& reader) {
  std::vector<Bytes> contents;
  for (std::uint32_t i = 0; i < reader.item_count(); ++i) contents.push_back(must(cdna::test::read_item(reader, i)));
  return contents;
}

}  // namespace

// ---- Descriptors ----

TEST_CASE("source: a descriptor gives the file's bytes, by mmap and pread, and stays the caller's as it was") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  const Bytes file = cdna::test::make_sample();
  save_file(path, file);
  const auto expected = contents_of(must(Reader::open(cdna::memory_source(file))));
  for (const Io io : {Io::mmap, Io::pread, Io::automatic}) {
    Opened mine(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(::lseek(mine.fd, 17, SEEK_SET) == 17);
    auto source = must(open_source(mine.fd, io));
    CHECK(source->name() == "fd " + std::to_string(mine.fd));
    CHECK(source->size_bytes() == file.size());
    if (io == Io::mmap) CHECK(source->backend() == "mmap");
    if (io == Io::pread) CHECK(source->backend() == "pread");
    const Reader reader = must(Reader::open(std::move(source)));
    CHECK(contents_of(reader) == expected);
    CHECK(::lseek(mine.fd, 0, SEEK_CUR) == 17);
    CHECK(::close(std::exchange(mine.fd, -1)) == 0);
    CHECK(contents_of(reader) == expected);
  }
}

TEST_CASE("source: a descriptor's file needs no name any more") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, cdna::test::make_small_sample());
  const Opened mine(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  fs::remove(path);
  CHECK(cdna::fsck(must(open_source(mine.fd))).valid);
}

TEST_CASE("source: the duplicate of a descriptor closes itself on exec, and with the source") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, cdna::test::make_small_sample());
  const Opened mine(::open(path.c_str(), O_RDONLY));
  const std::uint64_t before = open_descriptors();
  {
    const auto source = must(open_source(mine.fd, Io::pread));
    CHECK(open_descriptors() == before + 1);
    const Opened next(::open(path.c_str(), O_RDONLY));  // The lowest free one: the duplicate is below it.
    std::uint64_t inheritable = 0;
    for (int fd = mine.fd + 1; fd < next.fd; ++fd) {
      const int flags = ::fcntl(fd, F_GETFD);
      inheritable += flags >= 0 && (flags & FD_CLOEXEC) == 0;
    }
    CHECK(inheritable == 0);
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("source: descriptors of anything but a regular file, and failing calls, are errors, and nothing stays open") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, cdna::test::make_small_sample());
  const Opened directory(::open(folder.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const Opened read_end(ends[0]);
  const Opened write_end(ends[1]);
  const Opened mine(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const std::uint64_t before = open_descriptors();
  for (const int fd : {directory.fd, read_end.fd}) {
    const auto source = open_source(fd);
    REQUIRE_FALSE(source);
    CHECK(source.error().code == Code::bad_argument);
    CHECK(source.error().file == "fd " + std::to_string(fd));
  }
  const auto closed = open_source(-1);
  REQUIRE_FALSE(closed);
  CHECK(closed.error().code == Code::io);
  CHECK(closed.error().os_errno == EBADF);
  CHECK(closed.error().file == "fd -1");
  for (const char* const call : {"duplicate", "fstat"}) {
    FaultFileSystem file_system;
    file_system.fail_only = call;
    file_system.fail_at = 0;
    file_system.fail_errno = EMFILE;
    const auto source = open_source(mine.fd, Io::automatic, file_system);
    REQUIRE_FALSE(source);
    CHECK(source.error().code == Code::io);
    CHECK(source.error().os_errno == EMFILE);
    file_system.fail_at = 1;  // Of the next call; the first is interrupted.
    file_system.fail_errno = EINTR;
    CHECK(open_source(mine.fd, Io::automatic, file_system).has_value());
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("source: a descriptor that is only open for writing cannot be read") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, cdna::test::make_small_sample());
  const Opened mine(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  const auto mapped = open_source(mine.fd, Io::mmap);
  REQUIRE_FALSE(mapped);
  CHECK(mapped.error().code == Code::io);
  CHECK(mapped.error().os_errno == EACCES);
  const auto reader = Reader::open(must(open_source(mine.fd, Io::pread)));
  REQUIRE_FALSE(reader);
  CHECK(reader.error().code == Code::io);
  CHECK(reader.error().os_errno == EBADF);
}

// ---- fsck of a reader ----

namespace {

// A source of a caller's own: it counts.
class CountingSource final : public cdna::Source {
 public:
  CountingSource(const Bytes& file, std::uint64_t& bytes_read) : file_(file), bytes_read_(bytes_read) {}
  std::uint64_t size_bytes() const override { return file_.size(); }
  cdna::Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    std::copy_n(file_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    bytes_read_ += out.size();
    return {};
  }
  std::string_view name() const override { return "counted"; }

 private:
  const Bytes& file_;
  std::uint64_t& bytes_read_;
};

void check_same(const cdna::FsckReport& a, const cdna::FsckReport& b) {
  CHECK(a.complete == b.complete);
  CHECK(a.valid == b.valid);
  CHECK(a.operational_failure == b.operational_failure);
  CHECK(a.root == b.root);
  CHECK(a.item_count == b.item_count);
  CHECK(a.unsupported_count == b.unsupported_count);
  CHECK(a.blocks_checked == b.blocks_checked);
  CHECK(a.problem_count == b.problem_count);
  REQUIRE(a.problems.size() == b.problems.size());
  for (std::size_t i = 0; i < a.problems.size(); ++i) {
    CHECK(a.problems[i].error.describe() == b.problems[i].error.describe());
    CHECK(a.problems[i].begin == b.problems[i].begin);
    CHECK(a.problems[i].end == b.problems[i].end);
  }
}

}  // namespace

TEST_CASE("source: fsck of a reader reports what fsck of its bytes reports, for every file that opens") {
  std::uint64_t opened = 0;
  std::uint64_t damaged = 0;
  for (const char* const kind : {"good", "bad"}) {
    const fs::path folder = fs::path(CDNA_SOURCE_DIR) / "spec" / "vectors" / kind;
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() != ".cdna") continue;
      INFO(entry.path().filename().string());
      std::ifstream stream(entry.path(), std::ios::binary);
      const std::string text{std::istreambuf_iterator<char>(stream), {}};
      for (const bool mapped : {true, false}) {
        const auto reader = Reader::open(cdna::memory_source(std::as_bytes(std::span(text)), mapped));
        if (!reader) continue;
        cdna::FsckOptions options;
        options.level = cdna::FsckLevel::deep;
        const cdna::FsckReport report = cdna::fsck(*reader, options);
        check_same(report, cdna::fsck(cdna::memory_source(std::as_bytes(std::span(text))), options));
        ++opened;
        damaged += !report.valid;
      }
    }
  }
  CHECK(opened > 100);
  CHECK(damaged > 50);
}

TEST_CASE("source: fsck of a reader reads all anew, through the reader's source, and leaves the reader as it is") {
  Bytes file = cdna::test::make_sample();
  std::uint64_t bytes_read = 0;
  const Reader reader = must(Reader::open(std::make_unique<CountingSource>(file, bytes_read)));
  const auto contents = contents_of(reader);
  const cdna::ReadStatistics before = reader.statistics();
  bytes_read = 0;
  cdna::FsckOptions options;
  options.level = cdna::FsckLevel::deep;
  CHECK(cdna::fsck(reader, options).valid);
  CHECK(bytes_read > 0);
  CHECK(reader.statistics().bytes_read == before.bytes_read);
  CHECK(reader.statistics().blocks_verified == before.blocks_verified);

  const std::uint64_t place = file.size() - 10;  // In the tail, which the reader does not read again.
  file[place] ^= std::byte{1};
  const cdna::FsckReport report = cdna::fsck(reader, options);
  CHECK_FALSE(report.valid);
  REQUIRE(report.problems.size() == 1);
  CHECK(report.problems[0].error.file == "counted");
  CHECK(contents_of(reader) == contents);
}
