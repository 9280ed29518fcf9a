// Files of a folder, opened when they are asked for: a model has thousands of folders.
#include "libcdna/import/helix/tensor_files.hpp"

#include <algorithm>
#include <utility>

#include "libcdna/import/folder.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

class FolderFiles final : public TensorFiles {
 public:
  FolderFiles(std::string path, std::vector<std::string> names, FileSystem& file_system)
      : path_(std::move(path)), names_(std::move(names)), file_system_(file_system) {}

  bool has(std::string_view name) const override { return std::binary_search(names_.begin(), names_.end(), name); }
  Result<std::unique_ptr<Source>> open(const std::string& name) const override {
    return open_source(path_of(name), Io::pread, file_system_);
  }
  std::string path_of(const std::string& name) const override {
    return path_ + (path_.ends_with('/') ? "" : "/") + name;
  }

 private:
  std::string path_;
  std::vector<std::string> names_;  // Sorted.
  FileSystem& file_system_;
};

}  // namespace

Result<std::shared_ptr<const TensorFiles>> open_tensor_files(const std::string& path, FileSystem& file_system) {
  const Folder folder = CDNA_TRY(Folder::open(path, file_system));
  return std::shared_ptr<const TensorFiles>(std::make_shared<FolderFiles>(path, folder.names(), file_system));
}

Result<std::string> read_text(const TensorFiles& files, const std::string& name, std::uint64_t size_max) {
  const auto source = CDNA_TRY(files.open(name));
  Error too_long = fail(Code::limit, "", "over " + std::to_string(size_max) + " bytes");
  too_long.file = files.path_of(name);
  if (source->size_bytes() > size_max) return too_long;
  std::string text(static_cast<std::size_t>(source->size_bytes()), '\0');
  if (!text.empty()) CDNA_TRY(source->read_at(0, std::as_writable_bytes(std::span(text))));
  return text;
}

}  // namespace cdna
