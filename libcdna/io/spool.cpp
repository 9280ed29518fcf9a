// Spool: the file lives in $TMPDIR or /tmp and has no name.
#include "libcdna/io/spool.hpp"

#include <fcntl.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::size_t kCopyBytes = std::size_t{1} << 20;

// For file systems without O_TMPFILE: a file that loses its name at once.
int open_unlinked(FileSystem& file_system, const std::string& directory) {
  std::uint64_t random = 0;
  if (::getrandom(&random, sizeof random, 0) != sizeof random) return -EIO;
  const std::string path = directory + "/cdna-spool-" + std::to_string(random);
  const int fd = open_retrying(file_system, AT_FDCWD, path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd >= 0) retrying(file_system, &FileSystem::unlinkat, AT_FDCWD, path.c_str());
  return fd;
}

}  // namespace

Result<void> Spool::append(std::span<const std::byte> bytes) {
  memory_.insert(memory_.end(), bytes.begin(), bytes.end());
  if (memory_.size() > memory_bytes_max_) return spill();
  return {};
}

Result<void> Spool::spill() {
  FileSystem& file_system = posix_file_system();
  if (!file_.is_open()) {
    const char* const variable = std::getenv("TMPDIR");
    const std::string directory = variable != nullptr && *variable != '\0' ? variable : "/tmp";
    int fd = open_retrying(file_system, AT_FDCWD, directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd == -EOPNOTSUPP || fd == -EISDIR || fd == -EINVAL) fd = open_unlinked(file_system, directory);
    if (fd < 0) return fail_io("cannot create a temporary file for planes that wait", fd, directory);
    file_ = Descriptor(fd, file_system);
  }
  CDNA_TRY(write_all(file_system, file_.get(), memory_));
  spilled_bytes_ += memory_.size();
  memory_.clear();
  return {};
}

Result<void> Spool::drain(Sink& sink) {
  std::vector<std::byte> buffer(spilled_bytes_ == 0 ? 0 : kCopyBytes);
  for (std::uint64_t done = 0; done < spilled_bytes_;) {
    const std::span<std::byte> part =
        std::span(buffer).first(std::min<std::uint64_t>(kCopyBytes, spilled_bytes_ - done));
    CDNA_TRY(read_exactly(file_.file_system(), file_.get(), done, part));
    CDNA_TRY(sink.write(part));
    done += part.size();
  }
  return sink.write(memory_);
}

}  // namespace cdna
