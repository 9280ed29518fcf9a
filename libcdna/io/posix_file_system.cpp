// FileSystem as the operating system provides it.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <string_view>

#include "cdna/file_system.hpp"

namespace cdna {
namespace {

template <class T>
T or_errno(T result) {
  return result < 0 ? static_cast<T>(-errno) : result;
}

}  // namespace

int FileSystem::openat(int directory, const char* path, int flags, mode_t mode) {
  return or_errno(::openat(directory, path, flags, mode));
}
int FileSystem::close(int fd) { return or_errno(::close(fd)); }
int FileSystem::duplicate(int fd) { return or_errno(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }
int FileSystem::fstat(int fd, struct stat* out) { return or_errno(::fstat(fd, out)); }
int FileSystem::fstatat(int directory, const char* path, struct stat* out, int flags) {
  return or_errno(::fstatat(directory, path, out, flags));
}
int64_t FileSystem::readlinkat(int directory, const char* path, char* out, std::size_t size) {
  return or_errno(static_cast<int64_t>(::readlinkat(directory, path, out, size)));
}
int64_t FileSystem::fstatfs_type(int fd) {
  struct statfs info {};
  const int result = or_errno(::fstatfs(fd, &info));
  return result < 0 ? result : static_cast<int64_t>(static_cast<unsigned long>(info.f_type) & 0xFFFFFFFFUL);
}
int64_t FileSystem::pread(int fd, void* out, std::size_t size, std::uint64_t offset) {
  return or_errno(static_cast<int64_t>(::pread(fd, out, size, static_cast<off_t>(offset))));
}
int64_t FileSystem::write(int fd, const void* data, std::size_t size) {
  return or_errno(static_cast<int64_t>(::write(fd, data, size)));
}
int FileSystem::fadvise(int fd, std::uint64_t offset, std::uint64_t size, int advice) {
  return -::posix_fadvise(fd, static_cast<off_t>(offset), static_cast<off_t>(size), advice);
}
int FileSystem::mlock(const void* begin, std::size_t size) { return or_errno(::mlock(begin, size)); }
int FileSystem::munlock(const void* begin, std::size_t size) { return or_errno(::munlock(begin, size)); }
int FileSystem::fsync(int fd) { return or_errno(::fsync(fd)); }
int FileSystem::fchmod(int fd, mode_t mode) { return or_errno(::fchmod(fd, mode)); }
int FileSystem::flock(int fd, int operation) { return or_errno(::flock(fd, operation)); }
int FileSystem::linkat(int from_directory, const char* from, int to_directory, const char* to, int flags) {
  return or_errno(::linkat(from_directory, from, to_directory, to, flags));
}
int FileSystem::rename_new(int directory, const char* from, const char* to) {
  return or_errno(::renameat2(directory, from, directory, to, RENAME_NOREPLACE));
}
int FileSystem::renameat(int directory, const char* from, const char* to) {
  return or_errno(::renameat(directory, from, directory, to));
}
int FileSystem::unlinkat(int directory, const char* name) { return or_errno(::unlinkat(directory, name, 0)); }

int FileSystem::list(int directory, std::vector<std::string>& out) {
  const int fd = or_errno(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd < 0) return fd;
  struct Close {
    void operator()(DIR* stream) const { ::closedir(stream); }
  };
  const std::unique_ptr<DIR, Close> stream(::fdopendir(fd));
  if (stream == nullptr) {
    const int error = -errno;
    ::close(fd);
    return error;
  }
  errno = 0;
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") out.emplace_back(name);
    errno = 0;
  }
  return -errno;
}

FileSystem& posix_file_system() {
  static FileSystem* const instance = new FileSystem();  // Never destroyed: sinks may outlive static destructors.
  return *instance;
}

}  // namespace cdna
