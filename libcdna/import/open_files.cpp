// Keeps the last few sources; the others are opened again, and compared with what they were.
#include "libcdna/import/open_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string_view>

#include "libcdna/io/descriptor.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

// What tells one state of one file from another.
struct FileState {
  dev_t device = 0;
  ino_t inode = 0;
  off_t size = 0;
  timespec modified{};

  bool operator==(const FileState& other) const {
    return device == other.device && inode == other.inode && size == other.size &&
           modified.tv_sec == other.modified.tv_sec && modified.tv_nsec == other.modified.tv_nsec;
  }
};

Result<FileState> state_of(const std::string& path, FileSystem& file_system) {
  struct stat status {};
  const int result = retrying(file_system, &FileSystem::fstatat, AT_FDCWD, path.c_str(), &status, 0);
  if (result < 0) return fail_io("cannot look at the file", result, path);
  return FileState{status.st_dev, status.st_ino, status.st_size, status.st_mtim};
}

}  // namespace

class OpenFiles::File final : public Source {
 public:
  File(std::shared_ptr<OpenFiles> files, FileState state, const Source& source)
      : files_(std::move(files)),
        state_(state),
        path_(source.name()),
        reason_(source.reason()),
        size_bytes_(source.size_bytes()) {}
  ~File() override { files_->forget(*this); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  std::uint64_t size_bytes() const override { return size_bytes_; }
  std::string_view name() const override { return path_; }
  std::string_view backend() const override { return "pread"; }
  std::string_view reason() const override { return reason_; }

  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    return no_throw([&]() -> Result<void> {
      const std::shared_ptr<const Source> source = CDNA_TRY(opened());
      return source->read_at(offset, out);
    });
  }

  // Advice is for what is open.
  void prefetch(std::uint64_t offset, std::uint64_t size) const override {
    if (const auto source = files_->find(*this)) source->prefetch(offset, size);
  }
  void release(std::uint64_t offset, std::uint64_t size) const override {
    if (const auto source = files_->find(*this)) source->release(offset, size);
  }

 private:
  Result<std::shared_ptr<const Source>> opened() const {
    std::shared_ptr<const Source> source = files_->find(*this);
    if (source != nullptr) return source;
    source = CDNA_TRY(open_source(path_, Io::pread, files_->file_system_));
    // Looked at after the opening, and the first time before it: what was replaced in between differs.
    const FileState state = CDNA_TRY(state_of(path_, files_->file_system_));
    if (!(state == state_) || source->size_bytes() != size_bytes_) {
      Error changed = fail(Code::io, "", "the file changed while it was read");
      changed.file = path_;
      return changed;
    }
    files_->keep(*this, source);
    return source;
  }

  std::shared_ptr<OpenFiles> files_;
  FileState state_;
  std::string path_;
  std::string reason_;
  std::uint64_t size_bytes_;
};

std::shared_ptr<OpenFiles> OpenFiles::create(FileSystem& file_system) {
  return std::shared_ptr<OpenFiles>(new OpenFiles(file_system));
}

Result<std::unique_ptr<Source>> OpenFiles::open(const std::string& path) {
  return no_throw([&]() -> Result<std::unique_ptr<Source>> {
    const Result<FileState> state = state_of(path, file_system_);
    // What cannot be opened says why better than what cannot be looked at.
    std::shared_ptr<const Source> source = CDNA_TRY(open_source(path, Io::pread, file_system_));
    if (!state) return state.error();
    auto file = std::make_unique<File>(shared_from_this(), *state, *source);
    keep(*file, std::move(source));
    return std::unique_ptr<Source>(std::move(file));
  });
}

std::vector<OpenFiles::Kept>::iterator OpenFiles::place_of(const File& file) {
  return std::find_if(kept_.begin(), kept_.end(), [&](const Kept& kept) { return kept.first == &file; });
}

std::shared_ptr<const Source> OpenFiles::find(const File& file) {
  const std::lock_guard lock(mutex_);
  const auto place = place_of(file);
  if (place == kept_.end()) return nullptr;
  std::rotate(place, place + 1, kept_.end());
  return kept_.back().second;
}

// Another thread may have opened the same meanwhile.
void OpenFiles::keep(const File& file, std::shared_ptr<const Source> source) {
  const std::lock_guard lock(mutex_);
  if (place_of(file) != kept_.end()) return;
  if (kept_.size() == kOpenMax) kept_.erase(kept_.begin());
  kept_.emplace_back(&file, std::move(source));
}

void OpenFiles::forget(const File& file) {
  const std::lock_guard lock(mutex_);
  const auto place = place_of(file);
  if (place != kept_.end()) kept_.erase(place);
}

}  // namespace cdna
