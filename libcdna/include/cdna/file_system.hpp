// The one seam for all file operations: tests put faults, recorders and crash models here.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace cdna {

// Each call mirrors the system call of its name and returns its result, or -errno. The library calls nothing
// else on files, save that mmap and madvise work on a descriptor opened here. Callers retry EINTR and short counts, not
// the seam; an interrupted close counts as done, as Linux does it. Threads: may be called from any thread.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual int openat(int directory, const char* path, int flags, mode_t mode);
  virtual int close(int fd);
  virtual int duplicate(int fd);  // fcntl with F_DUPFD_CLOEXEC.
  virtual int fstat(int fd, struct stat* out);
  virtual int fstatat(int directory, const char* path, struct stat* out, int flags);
  virtual int64_t readlinkat(int directory, const char* path, char* out, std::size_t size);
  virtual int64_t fstatfs_type(int fd);  // f_type of fstatfs, >= 0, or -errno.
  virtual int64_t pread(int fd, void* out, std::size_t size, std::uint64_t offset);
  virtual int64_t write(int fd, const void* data, std::size_t size);
  virtual int fadvise(int fd, std::uint64_t offset, std::uint64_t size, int advice);  // posix_fadvise.
  virtual int mlock(const void* begin, std::size_t size);
  virtual int munlock(const void* begin, std::size_t size);
  virtual int fsync(int fd);
  virtual int fchmod(int fd, mode_t mode);
  virtual int flock(int fd, int operation);
  virtual int linkat(int from_directory, const char* from, int to_directory, const char* to, int flags);
  virtual int rename_new(int directory, const char* from, const char* to);  // renameat2 with RENAME_NOREPLACE.
  virtual int renameat(int directory, const char* from, const char* to);
  virtual int unlinkat(int directory, const char* name);
  // Names in a directory, without "." and "..".
  virtual int list(int directory, std::vector<std::string>& out);
};

// The operating system. Never destroyed.
FileSystem& posix_file_system();

}  // namespace cdna
