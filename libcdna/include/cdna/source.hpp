// Where bytes are read from: a file by mmap or pread, memory, or whatever an embedder implements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "cdna/error.hpp"
#include "cdna/file_system.hpp"

namespace cdna {

// Random access to a sequence of bytes of known length. Every method is const and may be called from any thread.
class Source {
 public:
  virtual ~Source() = default;

  virtual std::uint64_t size_bytes() const = 0;

  // Fills `out` from `offset`. Requires: the range lies within [0, size_bytes()).
  // Errors: io (also when the bytes no longer exist).
  virtual Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const = 0;

  // All bytes at once, or an empty span where the source is not mapped. Valid while the source lives.
  virtual std::span<const std::byte> mapping() const { return {}; }

  // Brings a range of the mapping into memory, so that a failing disk or a truncated file is an error here and not
  // a signal later. Does nothing without a mapping. Errors: io.
  virtual Result<void> populate(std::uint64_t offset, std::uint64_t size) const;

  // Tells that a range will be needed soon, so that a disk can read it meanwhile. May do nothing. Files: MADV_WILLNEED
  // where they are mapped, else POSIX_FADV_WILLNEED. Memory: nothing.
  virtual void prefetch(std::uint64_t offset, std::uint64_t size) const;

  // Lets the pages of a range go; they come back when they are touched or read. May do nothing. Mapped files:
  // MADV_DONTNEED, which takes the pages from this process and leaves them in the page cache. Files that are read:
  // POSIX_FADV_DONTNEED, which takes whole pages from the page cache, for all processes. Memory: nothing.
  virtual void release(std::uint64_t offset, std::uint64_t size) const;

  // Keeps the pages of a range of the mapping in memory until unlock(); pages are not counted, so that one unlock()
  // undoes any number of lock()s. Mapped files: mlock. Errors: io with errno (ENOMEM, EPERM: RLIMIT_MEMLOCK);
  // unsupported where there is nothing to lock, which is what every other source says.
  virtual Result<void> lock(std::uint64_t offset, std::uint64_t size) const;
  virtual void unlock(std::uint64_t offset, std::uint64_t size) const;

  virtual std::string_view name() const { return {}; }           // For messages: the path.
  virtual std::string_view backend() const { return "custom"; }  // "mmap", "pread", "memory", "custom".
  virtual std::string_view reason() const { return {}; }         // Why this backend: "ext4 is a local file system".
};

enum class Io : std::uint8_t { automatic, mmap, pread };

// Opens the regular file `path` for reading: O_CLOEXEC, never blocking on a FIFO, anything but a regular file refused.
// `automatic` maps files on known local file systems and reads all others with pread (spec/format.md, 16.3).
// Errors: io, not_found, bad_argument (not a regular file).
Result<std::unique_ptr<Source>> open_source(const std::string& path, Io io = Io::automatic,
                                            FileSystem& file_system = posix_file_system());

// The same of a descriptor that is open for reading. The source works on a duplicate of it (close-on-exec): the caller
// keeps its own and may close it at once; its file position is neither used nor moved. Named "fd N" in messages.
// Errors: as above, but for not_found; io also for a descriptor that is not open.
Result<std::unique_ptr<Source>> open_source(int descriptor, Io io = Io::automatic,
                                            FileSystem& file_system = posix_file_system());

// A source over bytes that the caller keeps alive and unchanged. `mapped`: whether mapping() offers them.
std::unique_ptr<Source> memory_source(std::span<const std::byte> bytes, bool mapped = true);

}  // namespace cdna
