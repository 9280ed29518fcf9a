// A FileSystem for tests: it counts calls, fails the one it is told to, and can lack O_TMPFILE, /proc or hard links.
#pragma once

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/file_system.hpp"

// Not shared between threads. Calls are numbered from 0 in the order in which they arrive; closing counts as a call.
class FaultFileSystem : public cdna::FileSystem {
 public:
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};

  bool has_tmpfile = true;                        // False: O_TMPFILE is EOPNOTSUPP, as on NFS.
  bool has_proc = true;                           // False: /proc/self/fd is ENOENT, as in a bare chroot.
  bool has_hard_links = true;                     // False: linkat is EPERM, as on vfat.
  std::size_t write_bytes_max = ~std::size_t{0};  // More is a short write.
  std::uint64_t short_write_at = kNever;          // Number of the write, from 0, that takes half of what it is given.
  std::uint64_t fail_at =
      kNever;  // Number of the first call that fails without being done (close is done all the same) ...
  int fail_errno = 0;
  std::uint64_t fail_count = 1;                      // ... and how many calls from there on.
  std::string_view fail_only;                        // If not empty: only calls of this name are counted for fail_at.
  std::function<void(std::string_view name)> after;  // Runs after each call that was done: where a rival steps in.

  const std::vector<std::string>& calls() const { return calls_; }
  std::uint64_t injected_count() const { return injected_; }
  // Writes that took less than they were given.
  std::uint64_t short_writes() const { return short_writes_; }
  // The call that failed first; "" if none did.
  const std::string& injected_call() const { return injected_call_; }
  std::uint64_t count_of(std::string_view name) const {
    return static_cast<std::uint64_t>(std::count(calls_.begin(), calls_.end(), name));
  }

  int openat(int directory, const char* path, int flags, mode_t mode) override {
    const bool temporary_file = (flags & O_TMPFILE) == O_TMPFILE;
    const bool proc = std::string_view(path).substr(0, 5) == "/proc";
    return done<int>(temporary_file           ? "openat(O_TMPFILE)"
                     : proc                   ? "openat(/proc)"
                     : (flags & O_CREAT) != 0 ? "openat(O_CREAT)"
                                              : "openat",
                     [&] {
                       if (temporary_file && !has_tmpfile) return -EOPNOTSUPP;
                       if (proc && !has_proc) return -ENOENT;
                       return FileSystem::openat(directory, path, flags, mode);
                     });
  }
  int close(int fd) override {
    const int result = FileSystem::close(fd);  // Linux releases the descriptor whatever close returns.
    return done<int>("close", [result] { return result; });
  }
  int fstat(int fd, struct stat* out) override {
    return done<int>("fstat", [&] { return FileSystem::fstat(fd, out); });
  }
  int fstatat(int directory, const char* path, struct stat* out, int flags) override {
    return done<int>("fstatat", [&] { return FileSystem::fstatat(directory, path, out, flags); });
  }
  int64_t readlinkat(int directory, const char* path, char* out, std::size_t size) override {
    return done<int64_t>("readlinkat", [&] { return FileSystem::readlinkat(directory, path, out, size); });
  }
  int64_t fstatfs_type(int fd) override {
    return done<int64_t>("fstatfs", [&] { return FileSystem::fstatfs_type(fd); });
  }
  int64_t pread(int fd, void* out, std::size_t size, std::uint64_t offset) override {
    return done<int64_t>("pread", [&] { return FileSystem::pread(fd, out, size, offset); });
  }
  int64_t write(int fd, const void* data, std::size_t size) override {
    return done<int64_t>("write", [&] {
      const bool halve = writes_++ == short_write_at && size > 1;
      const std::size_t taken = std::min(halve ? size / 2 : size, write_bytes_max);
      short_writes_ += taken < size;
      return FileSystem::write(fd, data, taken);
    });
  }
  int duplicate(int fd) override {
    return done<int>("duplicate", [&] { return FileSystem::duplicate(fd); });
  }
  int fadvise(int fd, std::uint64_t offset, std::uint64_t size, int advice) override {
    return done<int>("fadvise", [&] { return FileSystem::fadvise(fd, offset, size, advice); });
  }
  int mlock(const void* begin, std::size_t size) override {
    return done<int>("mlock", [&] { return FileSystem::mlock(begin, size); });
  }
  int munlock(const void* begin, std::size_t size) override {
    return done<int>("munlock", [&] { return FileSystem::munlock(begin, size); });
  }
  int fsync(int fd) override {
    return done<int>("fsync", [&] { return FileSystem::fsync(fd); });
  }
  int fchmod(int fd, mode_t mode) override {
    return done<int>("fchmod", [&] { return FileSystem::fchmod(fd, mode); });
  }
  int flock(int fd, int operation) override {
    return done<int>("flock", [&] { return FileSystem::flock(fd, operation); });
  }
  int linkat(int from_directory, const char* from, int to_directory, const char* to, int flags) override {
    return done<int>("linkat", [&] {
      if (!has_proc && std::string_view(from).substr(0, 5) == "/proc") return -ENOENT;
      if (!has_hard_links) return -EPERM;
      return FileSystem::linkat(from_directory, from, to_directory, to, flags);
    });
  }
  int rename_new(int directory, const char* from, const char* to) override {
    return done<int>("renameat2", [&] { return FileSystem::rename_new(directory, from, to); });
  }
  int renameat(int directory, const char* from, const char* to) override {
    return done<int>("renameat", [&] { return FileSystem::renameat(directory, from, to); });
  }
  int unlinkat(int directory, const char* name) override {
    return done<int>("unlinkat", [&] { return FileSystem::unlinkat(directory, name); });
  }
  int list(int directory, std::vector<std::string>& out) override {
    return done<int>("list", [&] { return FileSystem::list(directory, out); });
  }

 private:
  template <class T, class Call>
  T done(const char* name, const Call& call) {
    calls_.emplace_back(name);
    if (fail_only.empty() || fail_only == name) {
      const std::uint64_t number = counted_++;
      if (number >= fail_at && number - fail_at < fail_count) {
        if (injected_++ == 0) injected_call_ = name;
        return -fail_errno;
      }
    }
    const T result = call();
    if (after) after(name);
    return result;
  }

  std::vector<std::string> calls_;
  std::uint64_t counted_ = 0;
  std::uint64_t injected_ = 0;
  std::uint64_t writes_ = 0;
  std::uint64_t short_writes_ = 0;
  std::string injected_call_;
};
