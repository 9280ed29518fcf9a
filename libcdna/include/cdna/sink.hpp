// Where bytes are written to, front to back: a file that appears whole or not at all, a descriptor, memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/file_system.hpp"

namespace cdna {

// Takes bytes in order. Not shared between threads. Destroying a sink before commit() leaves nothing behind.
class Sink {
 public:
  virtual ~Sink() = default;
  // Errors: io.
  virtual Result<void> write(std::span<const std::byte> bytes) = 0;
  // Makes what was written durable and visible. Called once, last. Errors: io, exists.
  virtual Result<void> commit() = 0;
};

struct FileSinkOptions {
  bool force =
      false;  // Replace an existing regular file, by rename; a symbolic link itself is replaced, not its target.
  FileSystem* file_system = &posix_file_system();
};

// A new file at `path`. Nothing appears under that name before commit(), which syncs the file, links or renames it
// into place and syncs the directory. A stopped process leaves nothing for a new name; when replacing, or where
// O_TMPFILE is missing, perhaps one ".NAME.cdna-tmp-*", which the next writer of that name removes.
// Errors: io, exists, bad_argument (something other than a regular file stands there).
Result<std::unique_ptr<Sink>> create_file(const std::string& path, const FileSinkOptions& options = {});

// Writes to a descriptor that the caller owns: a pipe or socket. commit() does nothing more.
std::unique_ptr<Sink> descriptor_sink(int fd, FileSystem& file_system = posix_file_system());

// Appends to `out`, which outlives the sink.
std::unique_ptr<Sink> memory_sink(std::vector<std::byte>& out);

}  // namespace cdna
