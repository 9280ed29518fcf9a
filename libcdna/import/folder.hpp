// A folder that a model lies in, and the rules by which its files are followed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/file_system.hpp"
#include "cdna/source.hpp"
#include "libcdna/import/open_files.hpp"
#include "libcdna/io/descriptor.hpp"

namespace cdna {

// What an entry is.
enum class EntryKind : std::uint8_t { file, folder, dangling_link, outward_link, other };

// A folder and the names in it.
class Folder {
 public:
  static Result<Folder> open(const std::string& path, FileSystem& file_system);

  const std::vector<std::string>& names() const { return names_; }  // Sorted.
  bool has(const std::string& name) const { return std::binary_search(names_.begin(), names_.end(), name); }
  std::string path_of(const std::string& name) const { return path_ + (path_.ends_with('/') ? "" : "/") + name; }
  FileSystem& file_system() const { return descriptor_.file_system(); }
  // Follows links. Errors: io.
  Result<EntryKind> kind_of(const std::string& name) const;
  // The same, but for a link to a file elsewhere: outward_link. Errors: io.
  Result<EntryKind> kind_within(const std::string& name) const;
  // The file that a manifest names: of the folder (see kind_within()), or of folders in it, without links. `name` is
  // hostile. Errors: io, not_found, malformed (absolute, or it leads out of the folder, or not to a regular file); with
  // the path as file. Few of them are open at a time.
  Result<std::unique_ptr<Source>> open_file(std::string_view name) const;
  // An entry that is known to be a regular file. Few of them are open at a time. Errors: those of OpenFiles::open().
  Result<std::unique_ptr<Source>> open_entry(const std::string& name) const { return files_->open(path_of(name)); }
  // Whether there is such a file. Errors: io, malformed.
  Result<bool> has_file(std::string_view name) const;
  Error fail_here(Code code, std::string message) const;
  // The same result; an error about no file in particular names the folder.
  template <class T>
  Result<T> named(Result<T> result) const {
    if (!result && result.error().file.empty()) result.error().file = path_;
    return result;
  }

 private:
  // What a manifest names: dangling_link where nothing is, outward_link where a link is on the way. Errors: io,
  // malformed.
  Result<EntryKind> kind_on_way(std::string_view name) const;
  Folder(std::string path, Descriptor descriptor)
      : path_(std::move(path)), descriptor_(std::move(descriptor)), files_(OpenFiles::create(file_system())) {}
  std::string path_;
  Descriptor descriptor_;
  std::shared_ptr<OpenFiles> files_;
  std::vector<std::string> names_;
};

}  // namespace cdna
