// What happens to the file under an open reader: cut off, replaced, overwritten, unreadable, not mappable.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "sample_file.hpp"
#include "temporary_folder.hpp"

namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;
using cdna::Code;
using cdna::Io;
using cdna::Trust;
using cdna::test::must;
using cdna::test::save_file;
using cdna::test::TemporaryFolder;

constexpr std::uint64_t kSeed = 4711;
constexpr std::uint64_t kBlockBytes = std::uint64_t{256} << 10;
constexpr std::uint64_t kBlocks = 4;
constexpr std::uint64_t kRowBytes = 1024;
constexpr std::uint64_t kRowsPerBlock = kBlockBytes / kRowBytes;

// Changes bytes of the file where it stands, as another process might.
void overwrite(const std::string& path, std::uint64_t offset, const Bytes& bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const auto written = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
  ::close(fd);
  if (written != static_cast<ssize_t>(bytes.size())) throw std::runtime_error("cannot overwrite " + path);
}

// One raw tensor, "weight", of 4 blocks of 256 rows of 1 KiB.
Bytes content_of(std::uint64_t seed) { return cdna::test::Random(seed).bytes(kBlocks * kBlockBytes); }

Bytes make_file(std::uint64_t seed) {
  const Bytes content = content_of(seed);
  return cdna::test::write_file({}, [&](cdna::Writer& writer) {
    must(writer.add_exact({"weight", cdna::DType::u8, {1024, 1024}, cdna::Role::embedding, cdna::Codec::raw},
                          cdna::test::reader_of(content)));
  });
}

const Bytes& the_content() {
  static const Bytes content = content_of(kSeed);
  return content;
}

const Bytes& the_file() {
  static const Bytes file = make_file(kSeed);
  return file;
}

cdna::OpenOptions options_of(Io io, Trust trust, cdna::FileSystem& file_system = cdna::posix_file_system()) {
  cdna::OpenOptions options;
  options.io = io;
  options.trust = trust;
  options.file_system = &file_system;
  return options;
}

// Every way in which blocks are read with pread and verified in private memory.
const std::pair<Io, Trust> kStrictWays[] = {{Io::pread, Trust::automatic}, {Io::mmap, Trust::strict}};

cdna::Tensor weight_of(const cdna::Reader& reader) { return reader.find("weight").value(); }
std::uint64_t offset_of(const cdna::Reader& reader, std::uint64_t block) {
  return weight_of(reader).plane(0).offset + block * kBlockBytes;
}

// The first row of a block.
cdna::Result<Bytes> read_block_row(const cdna::Reader& reader, std::uint64_t block) {
  Bytes row(kRowBytes);
  const std::uint64_t number = block * kRowsPerBlock;
  const auto result = weight_of(reader).read_rows(number, number + 1, cdna::DType::u8, row);
  if (!result) return result.error();
  return row;
}

bool is_right(const cdna::Result<Bytes>& row, std::uint64_t block, const Bytes& content = the_content()) {
  const auto from = content.begin() + static_cast<std::ptrdiff_t>(block * kBlockBytes);
  return row && std::equal(row->begin(), row->end(), from);
}

void check_place(const cdna::Error& error, const cdna::Reader& reader, std::uint64_t block, const std::string& path) {
  CHECK(error.file == path);
  CHECK(error.item == "weight");
  CHECK(error.plane == 0);
  CHECK(error.block == static_cast<std::int64_t>(block));
  CHECK(error.offset == offset_of(reader, block));
}

// Runs `work` in a child process and gives how that ended, as waitpid does.
int status_of_child(const std::function<int()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGBUS, SIG_DFL);  // Sanitizers have a handler of their own.
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    int code = 99;
    try {
      code = work();
    } catch (...) {
    }
    ::_exit(code);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) throw std::runtime_error("cannot run a child process");
  return status;
}

bool exited_with(int status, int code) { return WIFEXITED(status) && WEXITSTATUS(status) == code; }

}  // namespace

// ---- Cut off, replaced, overwritten: strict ----

TEST_CASE("reader faults: strict, a file cut off while open is an error with its place, and what is left can be read") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  for (const auto& [io, trust] : kStrictWays) {
    save_file(path, the_file());
    const cdna::Reader reader = must(cdna::Reader::open(path, options_of(io, trust)));
    REQUIRE(is_right(read_block_row(reader, 3), 3));
    REQUIRE(::truncate(path.c_str(), static_cast<off_t>(offset_of(reader, 2) + 5)) == 0);
    for (const std::uint64_t block : {2U, 3U}) {
      const auto row = read_block_row(reader, block);
      REQUIRE_FALSE(row);
      CHECK(row.error().code == Code::io);
      CHECK(row.error().message == "the file ends here: it has become shorter since it was opened");
      check_place(row.error(), reader, block, path);
    }
    for (const std::uint64_t block : {0U, 1U}) CHECK(is_right(read_block_row(reader, block), block));
    const auto again = cdna::Reader::open(path, options_of(io, trust));
    REQUIRE_FALSE(again);
    CHECK(again.error().code == Code::truncated);
    save_file(path, the_file());  // The same inode has its bytes again: an I/O error is not remembered.
    CHECK(is_right(read_block_row(reader, 3), 3));
  }
}

TEST_CASE("reader faults: a file replaced by rename stays the old one to an open reader, in every mode") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  const Bytes other = make_file(kSeed + 1);
  const Bytes other_content = content_of(kSeed + 1);
  for (const auto& [io, trust] :
       {std::pair{Io::pread, Trust::strict}, {Io::mmap, Trust::strict}, {Io::mmap, Trust::zero_copy}}) {
    save_file(path, the_file());
    const cdna::Reader reader = must(cdna::Reader::open(path, options_of(io, trust)));
    save_file(folder / "new.cdna", other);
    fs::rename(folder / "new.cdna", path);
    for (std::uint64_t block = 0; block < kBlocks; ++block) CHECK(is_right(read_block_row(reader, block), block));
    const cdna::Reader again = must(cdna::Reader::open(path, options_of(io, trust)));
    CHECK(again.root() != reader.root());
    CHECK(is_right(read_block_row(again, 1), 1, other_content));
    fs::remove(path);
    CHECK(is_right(read_block_row(reader, 2), 2));
  }
}

TEST_CASE("reader faults: strict, bytes overwritten in place are an error at the next use, and stay one") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  for (const auto& [io, trust] : kStrictWays) {
    save_file(path, the_file());
    const cdna::Reader reader = must(cdna::Reader::open(path, options_of(io, trust)));
    REQUIRE(is_right(read_block_row(reader, 1), 1));
    const std::uint64_t place = offset_of(reader, 1) + 1000;
    overwrite(path, place, {~the_file()[place]});
    for (int turn = 0; turn < 2; ++turn) {
      const auto row = read_block_row(reader, 1);
      REQUIRE_FALSE(row);
      CHECK(row.error().code == Code::corrupt);
      CHECK(std::string(row.error().rule) == "B1");
      check_place(row.error(), reader, 1, path);
      overwrite(path, place, {the_file()[place]});  // Sticky: the second turn has the right bytes.
    }
    CHECK(is_right(read_block_row(reader, 0), 0));
  }
}

TEST_CASE("reader faults: strict, what another process writes all the time is never handed out") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, the_file());
  const std::uint64_t place = offset_of(must(cdna::Reader::open(path)), 2);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    for (std::uint64_t turn = 0; !stop; ++turn) {
      const std::byte value = the_file()[place] ^ (turn % 2 == 0 ? std::byte{0xFF} : std::byte{0});
      if (::pwrite(fd, &value, 1, static_cast<off_t>(place)) != 1) break;
      ::usleep(100);
    }
    ::close(fd);
  });
  unsigned right = 0;
  unsigned refused = 0;
  unsigned wrong = 0;
  for (unsigned turn = 0; turn < 20000 && (turn < 500 || right == 0 || refused == 0); ++turn) {
    const cdna::Reader reader = must(cdna::Reader::open(path, options_of(Io::pread, Trust::strict)));
    const auto row = read_block_row(reader, 2);
    right += is_right(row, 2) ? 1U : 0U;
    refused += !row && row.error().code == Code::corrupt ? 1U : 0U;
    wrong += row && !is_right(row, 2) ? 1U : 0U;
  }
  stop = true;
  writer.join();
  CHECK(wrong == 0);
  CHECK(right > 0);
  CHECK(refused > 0);
}

// ---- Zero-copy: what is promised, and what is not ----

TEST_CASE("reader faults: zero-copy, a file cut off before a block's first touch is an error") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, the_file());
  const cdna::Reader reader = must(cdna::Reader::open(path, options_of(Io::mmap, Trust::zero_copy)));
  REQUIRE(is_right(read_block_row(reader, 0), 0));
  // In the middle of block 1: its last page that is left reads as zeros from there on.
  REQUIRE(::truncate(path.c_str(), static_cast<off_t>(offset_of(reader, 1) + kBlockBytes / 2 + 5)) == 0);
  for (const std::uint64_t block : {1U, 2U, 3U}) {
    const int status = status_of_child([&] {
      const auto row = read_block_row(reader, block);
      const bool right = !row && row.error().code == Code::io && row.error().os_errno == EFAULT &&
                         row.error().block == static_cast<std::int64_t>(block) && row.error().item == "weight" &&
                         row.error().offset == offset_of(reader, block) && row.error().file == path;
      return right ? 0 : 1;
    });
    INFO("block " << block << ", status " << status);
    CHECK(exited_with(status, 0));
  }
  CHECK(is_right(read_block_row(reader, 0), 0));
  // All but the last 100 bytes of block 0: no page is missing, and the zeros do not match the digest.
  const cdna::Reader fresh = [&] {
    save_file(path, the_file());
    return must(cdna::Reader::open(path, options_of(Io::mmap, Trust::zero_copy)));
  }();
  REQUIRE(is_right(read_block_row(fresh, 1), 1));  // Its index is known now.
  REQUIRE(::truncate(path.c_str(), static_cast<off_t>(offset_of(fresh, 1) - 100)) == 0);
  const auto row = read_block_row(fresh, 0);
  REQUIRE_FALSE(row);
  CHECK(std::string(row.error().rule) == "B1");
}

TEST_CASE("reader faults: zero-copy, touching a verified block of a file that was cut off since raises SIGBUS") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, the_file());
  const cdna::Reader reader = must(cdna::Reader::open(path, options_of(Io::mmap, Trust::zero_copy)));
  for (std::uint64_t block = 0; block < kBlocks; ++block) REQUIRE(is_right(read_block_row(reader, block), block));
  REQUIRE(::truncate(path.c_str(), static_cast<off_t>(offset_of(reader, 2))) == 0);
  const int kept = status_of_child([&] { return is_right(read_block_row(reader, 1), 1) ? 0 : 1; });
  CHECK(exited_with(kept, 0));
  const int lost = status_of_child([&] { return read_block_row(reader, 2) ? 0 : 1; });
  REQUIRE(WIFSIGNALED(lost));
  CHECK(WTERMSIG(lost) == SIGBUS);
}

TEST_CASE(
    "reader faults: zero-copy, bytes rewritten after the first touch are not noticed until the file is reopened") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, the_file());
  const auto options = options_of(Io::mmap, Trust::zero_copy);
  const cdna::Reader reader = must(cdna::Reader::open(path, options));
  REQUIRE(is_right(read_block_row(reader, 1), 1));
  const Bytes foreign(kRowBytes, std::byte{0x55});
  for (const std::uint64_t block : {1U, 2U}) overwrite(path, offset_of(reader, block), foreign);
  CHECK(must(read_block_row(reader, 1)) == foreign);  // Touched before: handed out unseen.
  const auto untouched = read_block_row(reader, 2);
  REQUIRE_FALSE(untouched);
  CHECK(std::string(untouched.error().rule) == "B1");
  check_place(untouched.error(), reader, 2, path);
  const cdna::Reader again = must(cdna::Reader::open(path, options));
  for (const std::uint64_t block : {1U, 2U}) {
    const auto row = read_block_row(again, block);
    REQUIRE_FALSE(row);
    CHECK(std::string(row.error().rule) == "B1");
  }
}

// ---- Reads that fail ----

namespace {

// Reads that touch [begin, end) fail; one in `one_in` others does; some are short or interrupted.
class FailingFileSystem final : public cdna::FileSystem {
 public:
  std::uint64_t fail_begin = 0;
  std::uint64_t fail_end = 0;
  std::uint64_t one_in = 0;
  std::uint64_t failed = 0;
  std::uint64_t disturbed = 0;

  std::int64_t pread(int fd, void* out, std::size_t size, std::uint64_t offset) override {
    if (offset < fail_end && fail_begin < offset + size) return fail(EIO);
    if (one_in != 0 && random_.below(one_in) == 0) return fail(random_.below(2) == 0 ? EIO : ESTALE);
    if (one_in != 0 && random_.below(8) == 0) {
      ++disturbed;
      if (random_.below(2) == 0) return -EINTR;
      size = 1 + random_.below(size);
    }
    return FileSystem::pread(fd, out, size, offset);
  }

 private:
  std::int64_t fail(int error) {
    ++failed;
    return -error;
  }
  cdna::test::Random random_{kSeed};
};

}  // namespace

TEST_CASE("reader faults: an unreadable block is an I/O error with its place, is read once, and heals") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, the_file());
  for (const auto& [io, trust] : kStrictWays) {
    FailingFileSystem file_system;
    const cdna::Reader reader = must(cdna::Reader::open(path, options_of(io, trust, file_system)));
    file_system.fail_begin = offset_of(reader, 2) + 4096;
    file_system.fail_end = file_system.fail_begin + 512;
    REQUIRE(is_right(read_block_row(reader, 3), 3));
    const auto row = read_block_row(reader, 2);
    REQUIRE_FALSE(row);
    CHECK(row.error().code == Code::io);
    CHECK(row.error().os_errno == EIO);
    check_place(row.error(), reader, 2, path);
    CHECK(file_system.failed == 1);  // No second try: the kernel has made its own.
    CHECK(is_right(read_block_row(reader, 1), 1));
    file_system.fail_end = 0;
    CHECK(is_right(read_block_row(reader, 2), 2));
  }
}

TEST_CASE("reader faults: an unreadable tail, footer or index is an I/O error of the open or of the item") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, the_file());
  std::uint64_t index_at = 0;
  for (const cdna::test::Region& region : cdna::test::regions_of(the_file())) {
    if (region.part == cdna::test::Part::index && region.item == 0) index_at = region.begin;
    const bool at_open = region.part == cdna::test::Part::tail || region.part == cdna::test::Part::footer ||
                         region.part == cdna::test::Part::head;
    if (!at_open) continue;
    FailingFileSystem file_system;
    file_system.fail_begin = region.begin;
    file_system.fail_end = region.begin + 1;
    const auto reader = cdna::Reader::open(path, options_of(Io::pread, Trust::automatic, file_system));
    INFO(cdna::test::name_of(region.part));
    REQUIRE_FALSE(reader);
    CHECK(reader.error().code == Code::io);
    CHECK(reader.error().os_errno == EIO);
    CHECK(reader.error().file == path);
    CHECK(file_system.failed == 1);
  }
  FailingFileSystem file_system;
  const cdna::Reader reader = must(cdna::Reader::open(path, options_of(Io::pread, Trust::automatic, file_system)));
  file_system.fail_begin = index_at;
  file_system.fail_end = index_at + 64;
  const auto row = read_block_row(reader, 0);
  REQUIRE_FALSE(row);
  CHECK(row.error().code == Code::io);
  CHECK(row.error().item == "weight");
  CHECK(row.error().offset == index_at);
  file_system.fail_end = 0;
  CHECK(is_right(read_block_row(reader, 0), 0));
}

TEST_CASE("reader faults: of 100,000 reads through a source that flaps, those fail that met a fault, and no other") {
  CAPTURE(kSeed);
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  const Bytes file = cdna::test::make_sample();
  save_file(path, file);
  const cdna::Reader reference = must(cdna::Reader::open(cdna::memory_source(file)));
  std::vector<Bytes> contents;
  for (std::uint32_t i = 0; i < reference.item_count(); ++i)
    contents.push_back(must(cdna::test::read_item(reference, i)));
  FailingFileSystem file_system;
  const cdna::Reader reader = must(cdna::Reader::open(path, options_of(Io::pread, Trust::automatic, file_system)));
  file_system.one_in = 32;
  cdna::test::Random random(kSeed);
  std::uint64_t refused = 0;
  std::uint64_t wrong = 0;
  Bytes out;
  for (unsigned turn = 0; turn < 100000; ++turn) {
    const auto number = static_cast<std::uint32_t>(1 + random.below(10));  // All tensors but the largest.
    const cdna::Tensor tensor = reader.resolve(reader.item(number));
    if (tensor.rows() == 0) continue;
    const cdna::DType dtype = tensor.encoding() == "cdna.exact" ? tensor.dtype() : cdna::DType::f32;
    const std::uint64_t row = random.below(tensor.rows());
    out.assign(tensor.row_bytes(dtype), std::byte{0});
    const std::uint64_t failed_before = file_system.failed;
    const auto result = tensor.read_rows(row, row + 1, dtype, out);
    const bool met_a_fault = file_system.failed != failed_before;
    refused += result ? 0U : 1U;
    if (result.has_value() == met_a_fault) ++wrong;
    if (!result && (result.error().code != Code::io || result.error().item != tensor.name())) ++wrong;
    const auto from = contents[number].begin() + static_cast<std::ptrdiff_t>(row * out.size());
    if (result && !std::equal(out.begin(), out.end(), from)) ++wrong;
  }
  CHECK(wrong == 0);
  CHECK(refused > 100000 / 40);
  CHECK(file_system.disturbed > 100000 / 20);
  file_system.one_in = 0;
  for (std::uint32_t i = 0; i < reader.item_count(); ++i) CHECK(must(cdna::test::read_item(reader, i)) == contents[i]);
}

// ---- Which files are mapped ----

namespace {

// A file system of any type, with descriptors that cannot be mapped if so wanted.
class OddFileSystem final : public cdna::FileSystem {
 public:
  std::int64_t type = 0xEF53;             // ext4.
  std::uint64_t more_bytes = 0;           // That fstat claims.
  const char* unmappable_path = nullptr;  // What is opened instead; bytes and size still come from the right file.

  int openat(int directory, const char* path, int flags, mode_t mode) override {
    const int fd = FileSystem::openat(directory, path, flags, mode);
    if (unmappable_path == nullptr || fd < 0) return fd;
    readable_ = fd;
    return ::open(unmappable_path, O_RDONLY | O_CLOEXEC);
  }
  int close(int fd) override {
    if (readable_ >= 0) FileSystem::close(std::exchange(readable_, -1));
    return FileSystem::close(fd);
  }
  int fstat(int fd, struct stat* out) override {
    const int result = FileSystem::fstat(readable_ >= 0 ? readable_ : fd, out);
    out->st_size += static_cast<off_t>(more_bytes);
    return result;
  }
  std::int64_t fstatfs_type(int) override { return type; }
  std::int64_t pread(int fd, void* out, std::size_t size, std::uint64_t offset) override {
    return FileSystem::pread(readable_ >= 0 ? readable_ : fd, out, size, offset);
  }

 private:
  int readable_ = -1;
};

void check_reads_right(const cdna::Reader& reader) {
  for (std::uint64_t block = 0; block < kBlocks; ++block) CHECK(is_right(read_block_row(reader, block), block));
}

}  // namespace

TEST_CASE("reader faults: network, FUSE and unknown file systems are read with pread and strict, and say why") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, the_file());
  // statfs(2); Lustre, BeeGFS and virtiofs-as-FUSE from their own sources.
  const std::pair<std::int64_t, const char*> types[] = {
      {0x6969, "0x6969"},         {0xFF534D42, "0xff534d42"},
      {0xFE534D42, "0xfe534d42"},                             // NFS, CIFS, SMB2.
      {0x65735546, "0x65735546"}, {0x01021997, "0x1021997"},  // FUSE, 9p.
      {0x0BD00BD0, "0xbd00bd0"},  {0x19830326, "0x19830326"},
      {0x00C36400, "0xc36400"},  // Lustre, BeeGFS, Ceph.
      {0x12345678, "0x12345678"}, {0, "0x0"}};
  for (const auto& [type, name] : types) {
    OddFileSystem file_system;
    file_system.type = type;
    const cdna::Reader reader =
        must(cdna::Reader::open(path, options_of(Io::automatic, Trust::automatic, file_system)));
    CHECK(reader.source().backend() == "pread");
    CHECK(reader.source().reason() == "file system type " + std::string(name) + " is a network, FUSE or unknown one");
    CHECK(reader.trust() == Trust::strict);
    CHECK(reader.source().mapping().empty());
    check_reads_right(reader);
    // Who asks for a mapping gets it.
    const cdna::Reader mapped = must(cdna::Reader::open(path, options_of(Io::mmap, Trust::automatic, file_system)));
    CHECK(mapped.source().backend() == "mmap");
    CHECK(mapped.source().reason() == "asked for");
  }
}

TEST_CASE("reader faults: a file system that does not tell its type is read with pread") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, the_file());
  for (const int error : {ENOSYS, EIO, EACCES}) {
    OddFileSystem file_system;
    file_system.type = -error;
    const cdna::Reader reader =
        must(cdna::Reader::open(path, options_of(Io::automatic, Trust::automatic, file_system)));
    CHECK(reader.source().backend() == "pread");
    CHECK(reader.source().reason() == "the file system's type is not available");
    check_reads_right(reader);
  }
}

TEST_CASE("reader faults: local file systems are mapped, and say which they are") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, the_file());
  const std::pair<std::int64_t, const char*> types[] = {
      {0xEF53, "ext4"}, {0x58465342, "xfs"}, {0x9123683E, "btrfs"}, {0x01021994, "tmpfs"}, {0x794C7630, "overlayfs"}};
  for (const auto& [type, name] : types) {
    OddFileSystem file_system;
    file_system.type = type;
    const cdna::Reader reader =
        must(cdna::Reader::open(path, options_of(Io::automatic, Trust::automatic, file_system)));
    CHECK(reader.source().backend() == "mmap");
    CHECK(reader.source().reason() == std::string(name) + " is a local file system");
    CHECK(reader.trust() == Trust::zero_copy);
  }
}

TEST_CASE("reader faults: a file that cannot be mapped (ENODEV) is read with pread, unless mmap was asked for") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, the_file());
  OddFileSystem file_system;
  file_system.unmappable_path = "/proc/self/status";
  const cdna::Reader reader = must(cdna::Reader::open(path, options_of(Io::automatic, Trust::automatic, file_system)));
  CHECK(reader.source().backend() == "pread");
  CHECK(std::string(reader.source().reason()).starts_with("mmap was refused: "));
  CHECK(reader.trust() == Trust::strict);
  check_reads_right(reader);
  OddFileSystem other;
  other.unmappable_path = "/proc/self/status";
  const auto asked = cdna::Reader::open(path, options_of(Io::mmap, Trust::automatic, other));
  REQUIRE_FALSE(asked);
  CHECK(asked.error().code == Code::io);
  CHECK(asked.error().message == "cannot map the file");
  CHECK(asked.error().file == path);
}

TEST_CASE("reader faults: where address space is short (ENOMEM) a file is read with pread") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  // 512 MiB of zeros, of which the disk sees nothing but the last block.
  constexpr std::uint64_t kZeros = std::uint64_t{512} << 20;
  save_file(path, {});
  REQUIRE(::truncate(path.c_str(), kZeros) == 0);
  const int status = status_of_child([&] {
    rlimit limit{};
    std::ifstream in("/proc/self/statm");
    std::uint64_t pages = 0;
    in >> pages;
    limit.rlim_cur = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) + kZeros / 2;
    limit.rlim_max = limit.rlim_cur;
    if (::setrlimit(RLIMIT_AS, &limit) != 0) return 2;
    OddFileSystem file_system;
    const auto source = cdna::open_source(path, Io::automatic, file_system);
    if (!source || (*source)->backend() != "pread" || (*source)->reason() != "mmap was refused: Cannot allocate memory")
      return 3;
    Bytes end(100, std::byte{1});
    if (!(*source)->read_at(kZeros - end.size(), end) || end != Bytes(100)) return 4;
    const auto asked = cdna::open_source(path, Io::mmap, file_system);
    return !asked && asked.error().code == Code::no_memory && asked.error().os_errno == ENOMEM ? 0 : 5;
  });
  INFO("status " << status);
  CHECK(exited_with(status, 0));
}

TEST_CASE("reader faults: a file that shrinks between fstat and the mapping is an error, not a signal") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, the_file());
  for (const Io io : {Io::automatic, Io::mmap, Io::pread}) {
    OddFileSystem file_system;
    file_system.more_bytes = std::uint64_t{1} << 20;
    const auto reader = cdna::Reader::open(path, options_of(io, Trust::automatic, file_system));
    REQUIRE_FALSE(reader);
    CHECK(reader.error().code == Code::io);
    CHECK(reader.error().message == "the file ends here: it has become shorter since it was opened");
  }
}
