// Makes, renames and removes folders.
#include "libcdna/convert/new_folder.hpp"

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr int kAttempts = 100;
constexpr int kReadOnly = 0;        // O_RDONLY.
constexpr int kNoDirectory = -100;  // AT_FDCWD. Paths are absolute, so that it plays no part.

Error exists_already(const std::string& path) {
  Error error = fail(Code::exists, "", "it exists, and a folder is never replaced");
  error.file = path;
  return error;
}

Result<void> sync_folder(FileSystem& file_system, const std::string& path) {
  const int fd = file_system.openat(kNoDirectory, path.c_str(), kReadOnly, 0);
  if (fd < 0) return fail_io("cannot open the folder", fd, path);
  const int synced = file_system.fsync(fd);
  file_system.close(fd);
  if (synced < 0) return fail_io("cannot sync the folder", synced, path);
  return {};
}

}  // namespace

Result<NewFolder> NewFolder::create(const std::string& path, FileSystem& file_system) {
  std::error_code code;
  std::filesystem::path whole = std::filesystem::absolute(path, code).lexically_normal();
  if (!whole.has_filename()) whole = whole.parent_path();  // It ended in '/'.
  if (std::filesystem::exists(std::filesystem::symlink_status(whole, code))) return exists_already(path);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const std::string name = "." + whole.filename().string() + ".cdna-tmp-" + std::to_string(attempt);
    const std::filesystem::path temporary = whole.parent_path() / name;
    if (std::filesystem::create_directory(temporary, code))
      return NewFolder(whole.string(), temporary.string(), file_system);
    if (code) return fail_io("cannot make the folder", -code.value(), path);
  }
  Error error = fail(Code::exists, "", "100 folders of exports that were stopped lie beside it");
  error.file = path;
  return error;
}

NewFolder::NewFolder(NewFolder&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      file_system_(other.file_system_) {}

NewFolder::~NewFolder() {
  std::error_code ignored;
  if (!temporary_.empty()) std::filesystem::remove_all(temporary_, ignored);
}

Result<std::unique_ptr<Sink>> NewFolder::create_file(const std::string& name) {
  FileSinkOptions options;
  options.file_system = file_system_;
  return cdna::create_file(temporary_ + "/" + name, options);
}

Result<void> NewFolder::commit() {
  const int renamed = file_system_->rename_new(kNoDirectory, temporary_.c_str(), path_.c_str());
  if (renamed == -EEXIST || renamed == -ENOTEMPTY) return exists_already(path_);
  if (renamed < 0) return fail_io("cannot rename the folder", renamed, path_);
  temporary_.clear();
  return sync_folder(*file_system_, std::filesystem::path(path_).parent_path().string());
}

}  // namespace cdna
