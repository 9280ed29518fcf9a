// Files of a folder with thousands of them, of which a few are open at a time.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/file_system.hpp"
#include "cdna/source.hpp"

namespace cdna {

// Those that were read last stay open. Held by all sources that it opened. Any thread.
class OpenFiles : public std::enable_shared_from_this<OpenFiles> {
 public:
  static constexpr std::size_t kOpenMax = 16;
  // `file_system` must outlive this.
  static std::shared_ptr<OpenFiles> create(FileSystem& file_system);

  // A regular file, read with pread. It may be closed meanwhile and opened again when it is read, which is an io error
  // where the path leads to another file by then, or to one of another size or time of change. Errors: those of
  // open_source().
  Result<std::unique_ptr<Source>> open(const std::string& path);

 private:
  class File;
  using Kept = std::pair<const File*, std::shared_ptr<const Source>>;

  explicit OpenFiles(FileSystem& file_system) : file_system_(file_system) {}
  std::shared_ptr<const Source> find(const File& file);  // nullptr: it is closed.
  void keep(const File& file, std::shared_ptr<const Source> source);
  void forget(const File& file);
  std::vector<Kept>::iterator place_of(const File& file);

  FileSystem& file_system_;
  std::mutex mutex_;
  std::vector<Kept> kept_;  // The last one that was used comes last.
};

}  // namespace cdna
