// Whole reads and writes from partial ones.
#include "libcdna/io/descriptor.hpp"

#include <algorithm>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

// Linux transfers at most 0x7ffff000 bytes per call; smaller steps also keep a cancelled process responsive.
constexpr std::size_t kTransferBytesMax = std::size_t{1} << 30;

}  // namespace

int open_retrying(FileSystem& file_system, int directory, const char* path, int flags, mode_t mode) {
  return retrying(file_system, &FileSystem::openat, directory, path, flags, mode);
}

int list_retrying(FileSystem& file_system, int directory, std::vector<std::string>& out) {
  int result = -EINTR;
  while (result == -EINTR) {
    out.clear();
    result = file_system.list(directory, out);
  }
  return result;
}

Result<void> read_exactly(FileSystem& file_system, int fd, std::uint64_t offset, std::span<std::byte> out) {
  while (!out.empty()) {
    const std::int64_t count =
        retrying(file_system, &FileSystem::pread, fd, out.data(), std::min(out.size(), kTransferBytesMax), offset);
    if (count < 0) return fail_io("cannot read", count);
    if (count == 0) return fail(Code::io, "", "the file ends here: it has become shorter since it was opened", offset);
    out = out.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
  return {};
}

Result<void> write_all(FileSystem& file_system, int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::int64_t count =
        retrying(file_system, &FileSystem::write, fd, bytes.data(), std::min(bytes.size(), kTransferBytesMax));
    if (count < 0) return fail_io("cannot write", count);
    if (count == 0) return fail_io("cannot write: the system took no bytes", -EIO);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return {};
}

}  // namespace cdna
