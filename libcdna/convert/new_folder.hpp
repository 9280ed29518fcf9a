// A folder of files that appears whole or not at all.
#pragma once

#include <memory>
#include <string>

#include "cdna/error.hpp"
#include "cdna/file_system.hpp"
#include "cdna/sink.hpp"

namespace cdna {

// Not shared between threads. Until commit() its files lie in a folder of another name beside it,
// ".NAME.cdna-tmp-XXXX", which goes away with this; that of a stopped process stays.
class NewFolder {
 public:
  // Errors: exists, io.
  static Result<NewFolder> create(const std::string& path, FileSystem& file_system);
  NewFolder(NewFolder&& other) noexcept;
  NewFolder& operator=(NewFolder&&) = delete;
  ~NewFolder();

  // A new file in it, to be committed before the folder. Requires: a plain name. Errors: those of create_file().
  Result<std::unique_ptr<Sink>> create_file(const std::string& name);
  // Renames the folder, which must not be there still, and syncs what it lies in. Errors: exists, io.
  Result<void> commit();

 private:
  NewFolder(std::string path, std::string temporary, FileSystem& file_system)
      : path_(std::move(path)), temporary_(std::move(temporary)), file_system_(&file_system) {}
  std::string path_;       // Absolute, both.
  std::string temporary_;  // "": nothing is left to remove.
  FileSystem* file_system_;
};

}  // namespace cdna
