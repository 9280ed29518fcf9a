// An open descriptor that closes itself, and loops that turn short and interrupted calls into whole ones.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/file_system.hpp"

namespace cdna {

class Descriptor {
 public:
  Descriptor() = default;
  Descriptor(int fd, FileSystem& file_system) : fd_(fd), file_system_(&file_system) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)), file_system_(other.file_system_) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(file_system_, other.file_system_);
    return *this;
  }
  ~Descriptor() { close(); }

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  FileSystem& file_system() const { return *file_system_; }
  // Closes now. Returns 0 or -errno; the descriptor is gone either way, so that an interrupted close is a success.
  int close() {
    const int result = fd_ < 0 ? 0 : file_system_->close(std::exchange(fd_, -1));
    return result == -EINTR ? 0 : result;
  }

 private:
  int fd_ = -1;
  FileSystem* file_system_ = nullptr;
};

// Makes a call of `file_system` until no signal interrupts it. Not for close: Linux has released the descriptor even
// when close says EINTR. Returns the call's result, never -EINTR.
template <class R, class... Parameters, class... Arguments>
R retrying(FileSystem& file_system, R (FileSystem::*call)(Parameters...), Arguments... arguments) {
  R result = -EINTR;
  while (result == -EINTR) result = (file_system.*call)(arguments...);
  return result;
}

// Names in a directory, with EINTR retried. Returns 0 or -errno.
int list_retrying(FileSystem& file_system, int directory, std::vector<std::string>& out);

// Opens with EINTR retried. Returns the descriptor or -errno.
int open_retrying(FileSystem& file_system, int directory, const char* path, int flags, mode_t mode = 0);

// Fills `out` from `offset`. Errors: io; the end of the file is io with a message of its own.
Result<void> read_exactly(FileSystem& file_system, int fd, std::uint64_t offset, std::span<std::byte> out);

// Writes all of `bytes`. Errors: io.
Result<void> write_all(FileSystem& file_system, int fd, std::span<const std::byte> bytes);

}  // namespace cdna
