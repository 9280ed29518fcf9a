// Sources over files (mmap, pread) and memory, and the choice between them.
#include "cdna/source.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>

#include <boost/interprocess/mapped_region.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "libcdna/io/descriptor.hpp"
#include "libcdna/io/pages.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

namespace interprocess = boost::interprocess;

// A descriptor that we opened and checked, in the shape that mapped_region takes. boost::file_mapping is not used: it
// opens without O_CLOEXEC and blocks on a FIFO.
struct CheckedDescriptor {
  int fd;
  interprocess::mapping_handle_t get_mapping_handle() const {
    return interprocess::ipcdetail::mapping_handle_from_file_handle(fd);
  }
  interprocess::mode_t get_mode() const { return interprocess::read_only; }
};

class FileSource : public Source {
 public:
  FileSource(Descriptor descriptor, std::uint64_t size_bytes, std::string name, std::string reason)
      : descriptor_(std::move(descriptor)),
        size_bytes_(size_bytes),
        name_(std::move(name)),
        reason_(std::move(reason)) {}

  std::uint64_t size_bytes() const override { return size_bytes_; }
  std::string_view name() const override { return name_; }
  std::string_view reason() const override { return reason_; }
  std::string_view backend() const override { return "pread"; }

  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    return no_throw([&] {
      auto result = read_exactly(descriptor_.file_system(), descriptor_.get(), offset, out);
      if (!result) {
        result.error().file = name_;
        if (result.error().offset == kNoOffset) result.error().offset = offset;
      }
      return result;
    });
  }

  // Advice: what comes of it shows nowhere but in time.
  void prefetch(std::uint64_t offset, std::uint64_t size) const override {
    if (size != 0) file_system().fadvise(fd(), offset, size, POSIX_FADV_WILLNEED);
  }

  void release(std::uint64_t offset, std::uint64_t size) const override {
    if (size != 0) file_system().fadvise(fd(), offset, size, POSIX_FADV_DONTNEED);
  }

  int fd() const { return descriptor_.get(); }
  FileSystem& file_system() const { return descriptor_.file_system(); }
  void set_reason(std::string reason) { reason_ = std::move(reason); }

 private:
  Descriptor descriptor_;
  std::uint64_t size_bytes_;
  std::string name_;
  std::string reason_;
};

class MappedSource final : public FileSource {
 public:
  MappedSource(FileSource file, interprocess::mapped_region region)
      : FileSource(std::move(file)), region_(std::move(region)) {}

  std::string_view backend() const override { return "mmap"; }

  std::span<const std::byte> mapping() const override {
    return {static_cast<const std::byte*>(region_.get_address()), region_.get_size()};
  }

  Result<void> populate(std::uint64_t offset, std::uint64_t size) const override {
    if (size == 0) return {};
    const int result = advise(offset, size, MADV_POPULATE_READ);
    // EINVAL: a kernel before 5.14. The pages then come in when they are touched.
    if (result == 0 || errno == EINVAL) return {};
    const int populate_errno = errno;
    return no_throw([&]() -> Result<void> {
      Error error = fail_io("cannot bring mapped bytes into memory (is the file truncated or the disk failing?)",
                            -populate_errno, std::string(name()));
      error.offset = offset;
      return error;
    });
  }

  void prefetch(std::uint64_t offset, std::uint64_t size) const override {
    if (size != 0) advise(offset, size, MADV_WILLNEED);
  }

  void release(std::uint64_t offset, std::uint64_t size) const override {
    if (size != 0) advise(offset, size, MADV_DONTNEED);
  }

  Result<void> lock(std::uint64_t offset, std::uint64_t size) const override {
    if (size == 0) return {};
    const int result = retrying(file_system(), &FileSystem::mlock, address_of(offset), static_cast<std::size_t>(size));
    if (result == 0) return {};
    return no_throw([&]() -> Result<void> {
      Error error = fail_io("cannot lock " + std::to_string(size) + " bytes in memory", result, std::string(name()));
      error.code = Code::io;  // ENOMEM is over RLIMIT_MEMLOCK here.
      error.offset = offset;
      return error;
    });
  }

  void unlock(std::uint64_t offset, std::uint64_t size) const override {
    if (size != 0) file_system().munlock(address_of(offset), static_cast<std::size_t>(size));
  }

 private:
  const void* address_of(std::uint64_t offset) const { return mapping().data() + offset; }

  int advise(std::uint64_t offset, std::uint64_t size, int advice) const {
    const auto begin = reinterpret_cast<std::uintptr_t>(mapping().data()) + offset;
    const std::uintptr_t page = begin - begin % page_bytes();
    return ::madvise(reinterpret_cast<void*>(page), begin + size - page, advice);
  }

  interprocess::mapped_region region_;
};

class MemorySource final : public Source {
 public:
  MemorySource(std::span<const std::byte> bytes, bool mapped) : bytes_(bytes), mapped_(mapped) {}
  std::uint64_t size_bytes() const override { return bytes_.size(); }
  std::string_view backend() const override { return "memory"; }
  std::span<const std::byte> mapping() const override { return mapped_ ? bytes_ : std::span<const std::byte>{}; }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
    return {};
  }

 private:
  std::span<const std::byte> bytes_;
  bool mapped_;
};

struct LocalFileSystem {
  std::int64_t magic;
  std::string_view name;
};

// File systems on which a mapping neither waits for a network nor dies by SIGBUS when a server does. All others get
// pread: NFS, Lustre, CIFS, FUSE, 9p, BeeGFS and whatever is not known. XFS, ZFS and exFAT are not in linux/magic.h.
constexpr LocalFileSystem kLocalFileSystems[] = {
    {EXT4_SUPER_MAGIC, "ext4"}, {0x58465342, "xfs"},          {BTRFS_SUPER_MAGIC, "btrfs"},
    {TMPFS_MAGIC, "tmpfs"},     {0x2FC12FC1, "zfs"},          {OVERLAYFS_SUPER_MAGIC, "overlayfs"},
    {F2FS_SUPER_MAGIC, "f2fs"}, {SQUASHFS_MAGIC, "squashfs"}, {EROFS_SUPER_MAGIC_V1, "erofs"},
    {RAMFS_MAGIC, "ramfs"},     {0xCA451A4E, "bcachefs"},     {MSDOS_SUPER_MAGIC, "vfat"},
};

struct Choice {
  Io io;
  std::string reason;
};

Choice choose_backend(FileSystem& file_system, int fd) {
  const std::int64_t magic = retrying(file_system, &FileSystem::fstatfs_type, fd);
  if (magic < 0) return {Io::pread, "the file system's type is not available"};
  for (const LocalFileSystem& local : kLocalFileSystems) {
    if (local.magic == magic) return {Io::mmap, std::string(local.name) + " is a local file system"};
  }
  char text[80];
  std::snprintf(text, sizeof text, "file system type 0x%llx is a network, FUSE or unknown one",
                static_cast<unsigned long long>(magic));
  return {Io::pread, text};
}

std::unique_ptr<Source> read_file(FileSource file) { return std::make_unique<FileSource>(std::move(file)); }

// When the choice was ours, a file that cannot be mapped is read instead, and reason() says so.
Result<std::unique_ptr<Source>> map_file(FileSource file, bool asked_for) {
  if (file.size_bytes() == 0) return read_file(std::move(file));  // mmap refuses length 0.
  try {
    interprocess::mapped_region region(CheckedDescriptor{file.fd()}, interprocess::read_only, 0,
                                       static_cast<std::size_t>(file.size_bytes()));
    return std::unique_ptr<Source>(std::make_unique<MappedSource>(std::move(file), std::move(region)));
  } catch (const interprocess::interprocess_exception& exception) {
    const int error = exception.get_native_error();
    if (asked_for) return fail_io("cannot map the file", -error, std::string(file.name()));
    file.set_reason(std::string("mmap was refused: ") + std::strerror(error));
    return read_file(std::move(file));
  }
}

}  // namespace

Result<void> Source::populate(std::uint64_t, std::uint64_t) const { return {}; }
void Source::prefetch(std::uint64_t, std::uint64_t) const {}
void Source::release(std::uint64_t, std::uint64_t) const {}
void Source::unlock(std::uint64_t, std::uint64_t) const {}

Result<void> Source::lock(std::uint64_t, std::uint64_t) const {
  return no_throw([&]() -> Result<void> {
    Error error = fail(Code::unsupported, "",
                       "pages can be locked in memory only in a mapped file; this source is " + std::string(backend()));
    error.file = name();
    return error;
  });
}

namespace {

// Of a descriptor that is ours.
Result<std::unique_ptr<Source>> open_descriptor(Descriptor descriptor, const std::string& name, Io io) {
  FileSystem& file_system = descriptor.file_system();
  struct stat info {};
  if (const int result = retrying(file_system, &FileSystem::fstat, descriptor.get(), &info); result < 0)
    return fail_io("cannot stat", result, name);
  if (!S_ISREG(info.st_mode)) {
    Error error = fail(Code::bad_argument, "", S_ISDIR(info.st_mode) ? "is a directory" : "is not a regular file");
    error.file = name;
    return error;
  }
  Choice choice{io, "asked for"};
  if (io == Io::automatic) choice = choose_backend(file_system, descriptor.get());
  FileSource file(std::move(descriptor), static_cast<std::uint64_t>(info.st_size), name, std::move(choice.reason));
  if (choice.io == Io::mmap) return map_file(std::move(file), io == Io::mmap);
  return read_file(std::move(file));
}

Result<std::unique_ptr<Source>> open_file(const std::string& path, Io io, FileSystem& file_system) {
  const int fd = open_retrying(file_system, AT_FDCWD, path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) {
    Error error = fail_io("cannot open", fd, path);
    if (fd == -ENOENT) error.code = Code::not_found;
    return error;
  }
  return open_descriptor(Descriptor(fd, file_system), path, io);
}

Result<std::unique_ptr<Source>> open_duplicate(int descriptor, Io io, FileSystem& file_system) {
  const std::string name = "fd " + std::to_string(descriptor);
  const int fd = retrying(file_system, &FileSystem::duplicate, descriptor);
  if (fd < 0) return fail_io("cannot duplicate the descriptor", fd, name);
  return open_descriptor(Descriptor(fd, file_system), name, io);
}

}  // namespace

Result<std::unique_ptr<Source>> open_source(const std::string& path, Io io, FileSystem& file_system) {
  return no_throw([&] { return open_file(path, io, file_system); });
}

Result<std::unique_ptr<Source>> open_source(int descriptor, Io io, FileSystem& file_system) {
  return no_throw([&] { return open_duplicate(descriptor, io, file_system); });
}

std::unique_ptr<Source> memory_source(std::span<const std::byte> bytes, bool mapped) {
  return std::make_unique<MemorySource>(bytes, mapped);
}

}  // namespace cdna
