// Spool: the file lives in $TMPDIR or /tmp and has no name.
#include "libcdna/io/spool.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cstdlib>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::size_t kCopyBytes = std::size_t{1} << 20;

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
    const int fd = open_retrying(file_system, AT_FDCWD, directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
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
    const std::span<std::byte> part = std::span(buffer).first(std::min<std::uint64_t>(kCopyBytes, spilled_bytes_ - done));
    CDNA_TRY(read_exactly(file_.file_system(), file_.get(), done, part));
    CDNA_TRY(sink.write(part));
    done += part.size();
  }
  return sink.write(memory_);
}

}  // namespace cdna
