// A file that appears under its name whole and durable, or not at all.
//
//   new name:  O_TMPFILE ─write─▶ fsync ─▶ link(NAME)                       ─▶ fsync(directory)
//   replace:   O_TMPFILE ─write─▶ fsync ─▶ link(.NAME.cdna-tmp-*) ─▶ rename ─▶ fsync(directory)
//
// Where O_TMPFILE is missing the temporary name exists from the start. A temporary file is locked while its writer
// lives, so that the next writer of NAME can tell a left-over (and remove it) from a rival.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>

#include <cerrno>
#include <cstdio>

#include "cdna/sink.hpp"
#include "libcdna/io/descriptor.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::size_t kStemBytesMax = 200;  // NAME_MAX is 255; the pattern adds 27 bytes.
constexpr std::size_t kRandomDigits = 16;

std::string temporary_prefix(const std::string& name) { return "." + name.substr(0, kStemBytesMax) + ".cdna-tmp-"; }

std::string random_digits() {
  std::uint64_t value = 0;
  if (::getrandom(&value, sizeof value, 0) != sizeof value) value = reinterpret_cast<std::uintptr_t>(&value);
  char text[kRandomDigits + 1];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

class FileSink final : public Sink {
 public:
  FileSink(std::string path, const FileSinkOptions& options)
      : path_(std::move(path)), force_(options.force), file_system_(*options.file_system) {
    const std::size_t slash = path_.rfind('/');
    directory_name_ = slash == std::string::npos ? "." : slash == 0 ? "/" : path_.substr(0, slash);
    name_ = slash == std::string::npos ? path_ : path_.substr(slash + 1);
  }

  ~FileSink() override { remove_temporary(); }

  Result<void> open() {
    if (name_.empty() || name_ == "." || name_ == "..")
      return at_path(fail(Code::bad_argument, "", "is not a file name"));
    CDNA_TRY(open_directory());
    CDNA_TRY(check_destination());
    CDNA_TRY(remove_left_overs());
    return open_temporary();
  }

  Result<void> write(std::span<const std::byte> bytes) override {
    return no_throw([&] {
      auto result = write_all(file_system_, file_.get(), bytes);
      if (!result) result.error().file = path_;
      return result;
    });
  }

  Result<void> commit() override {
    return no_throw([this] { return publish(); });
  }

 private:
  Result<void> publish() {
    if (replacing_)
      call(&FileSystem::fchmod, file_.get(), replaced_mode_);  // Best effort, as cp --preserve=mode on odd systems.
    // A failed fsync is final: the kernel may have dropped the dirty pages, so a second call could succeed over lost
    // data. (One that a signal interrupts has not failed, and goes on.)
    if (const int result = call(&FileSystem::fsync, file_.get()); result < 0)
      return abandon("cannot sync the file", result);
    CDNA_TRY(give_name());
    if (const int result = file_.close(); result < 0) return at_path(fail_io("cannot close the file", result));
    if (const int result = call(&FileSystem::fsync, directory_.get()); result < 0) {
      return at_path(fail_io(
          "the file is complete and in place, but syncing its directory failed: it may not survive a power loss",
          result));
    }
    return {};
  }

  template <class R, class... Parameters, class... Arguments>
  R call(R (FileSystem::*function)(Parameters...), Arguments... arguments) {
    return retrying(file_system_, function, arguments...);
  }

  Error at_path(Error error) const {
    error.file = path_;
    return error;
  }

  Error abandon(const char* what, int negative_errno) {
    remove_temporary();
    return at_path(fail_io(what, negative_errno));
  }

  void remove_temporary() {
    if (!temporary_name_.empty()) call(&FileSystem::unlinkat, directory_.get(), temporary_name_.c_str());
    temporary_name_.clear();
    file_.close();
  }

  Result<void> open_directory() {
    const int fd = open_retrying(file_system_, AT_FDCWD, directory_name_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return at_path(fail_io("cannot open the directory of the destination", fd));
    directory_ = Descriptor(fd, file_system_);
    return {};
  }

  Result<void> check_destination() {
    struct stat info {};
    const int result = call(&FileSystem::fstatat, directory_.get(), name_.c_str(), &info, AT_SYMLINK_NOFOLLOW);
    if (result == -ENOENT) return {};
    if (result < 0) return at_path(fail_io("cannot stat the destination", result));
    if (!force_) return at_path(fail(Code::exists, "", "exists already"));
    exists_ = true;
    if (!S_ISREG(info.st_mode) && !S_ISLNK(info.st_mode)) {
      return at_path(fail(Code::bad_argument, "", "exists and is not a regular file"));
    }
    replacing_ = S_ISREG(info.st_mode);
    replaced_mode_ = info.st_mode & 0777;
    return {};
  }

  // Left-overs of stopped writers: those whose lock is free. Failing to look is no reason not to write.
  Result<void> remove_left_overs() {
    std::vector<std::string> names;
    if (list_retrying(file_system_, directory_.get(), names) < 0) return {};
    const std::string prefix = temporary_prefix(name_);
    for (const std::string& name : names) {
      if (name.size() != prefix.size() + kRandomDigits || name.compare(0, prefix.size(), prefix) != 0) continue;
      const int fd =
          open_retrying(file_system_, directory_.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
      if (fd < 0) continue;
      const Descriptor left_over(fd, file_system_);
      if (call(&FileSystem::flock, fd, LOCK_EX | LOCK_NB) == 0)
        call(&FileSystem::unlinkat, directory_.get(), name.c_str());
    }
    return {};
  }

  Result<void> open_temporary() {
    // Naming an O_TMPFILE file goes through /proc/self/fd: without it the file could never get its name.
    const int proc = open_retrying(file_system_, AT_FDCWD, "/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (proc >= 0) {
      const Descriptor proc_descriptor(proc, file_system_);
      const int fd = open_retrying(file_system_, directory_.get(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
      if (fd >= 0) {
        file_ = Descriptor(fd, file_system_);
        call(&FileSystem::flock, fd, LOCK_EX | LOCK_NB);
        return {};
      }
      // Not offered by this file system (EOPNOTSUPP), or by a kernel that takes it for an open of the directory
      // (EISDIR).
      if (fd != -EOPNOTSUPP && fd != -EISDIR && fd != -EINVAL)
        return at_path(fail_io("cannot create a temporary file", fd));
    }
    return open_named_temporary();
  }

  // A rival that cleans up may take the new file for a left-over in the moment before it is locked: then another name
  // is tried.
  Result<void> open_named_temporary() {
    constexpr int kAttempts = 8;
    const mode_t mode = replacing_ ? replaced_mode_ : 0666;  // Never wider than the file that it replaces.
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      const std::string name = temporary_prefix(name_) + random_digits();
      const int fd =
          open_retrying(file_system_, directory_.get(), name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
      if (fd < 0) return at_path(fail_io("cannot create a temporary file", fd));
      file_ = Descriptor(fd, file_system_);
      temporary_name_ = name;
      const bool rival_has_it = call(&FileSystem::flock, fd, LOCK_EX | LOCK_NB) == -EWOULDBLOCK;
      struct stat info {};
      if (const int result = call(&FileSystem::fstat, fd, &info); result < 0)
        return at_path(fail_io("cannot stat a temporary file", result));
      if (!rival_has_it && info.st_nlink > 0) return {};
      temporary_name_.clear();
      file_.close();
    }
    return at_path(fail_io("cannot keep a temporary file: others remove it", -EBUSY));
  }

  Result<void> give_name() {
    if (!exists_) {
      const int result = link_as(name_);
      if (result == 0) return {};
      if (result != -EEXIST) return abandon("cannot link the file into place", result);
      if (!force_) {
        remove_temporary();
        return at_path(fail(Code::exists, "", "appeared while it was being written"));
      }
    }
    if (temporary_name_.empty()) {
      const std::string name = temporary_prefix(name_) + random_digits();
      if (const int result = link_as(name); result < 0) return abandon("cannot link the file beside its place", result);
      temporary_name_ = name;
    }
    if (const int result = call(&FileSystem::renameat, directory_.get(), temporary_name_.c_str(), name_.c_str());
        result < 0) {
      return abandon("cannot rename the temporary file into place", result);
    }
    temporary_name_.clear();
    return {};
  }

  // Gives the file another name, which must be free. Returns 0 or -errno.
  int link_as(const std::string& name) {
    if (temporary_name_.empty()) {
      const std::string self = "/proc/self/fd/" + std::to_string(file_.get());
      return call(&FileSystem::linkat, AT_FDCWD, self.c_str(), directory_.get(), name.c_str(), AT_SYMLINK_FOLLOW);
    }
    int result =
        call(&FileSystem::linkat, directory_.get(), temporary_name_.c_str(), directory_.get(), name.c_str(), 0);
    if (result == 0) {
      call(&FileSystem::unlinkat, directory_.get(), temporary_name_.c_str());
    } else if (result == -EPERM || result == -EOPNOTSUPP || result == -ENOSYS || result == -EMLINK) {
      result = call(&FileSystem::rename_new, directory_.get(), temporary_name_.c_str(),
                    name.c_str());  // vfat, exFAT, many FUSE: no hard links.
    }
    if (result == 0) temporary_name_.clear();
    return result;
  }

  std::string path_;
  bool force_;
  FileSystem& file_system_;
  std::string directory_name_;
  std::string name_;
  Descriptor directory_;
  Descriptor file_;
  std::string temporary_name_;  // Within directory_; "" while the file has no name.
  bool exists_ = false;         // Something stands under NAME.
  bool replacing_ = false;      // It is a regular file, whose mode is kept.
  mode_t replaced_mode_ = 0;
};

}  // namespace

Result<std::unique_ptr<Sink>> create_file(const std::string& path, const FileSinkOptions& options) {
  return no_throw([&]() -> Result<std::unique_ptr<Sink>> {
    auto sink = std::make_unique<FileSink>(path, options);
    CDNA_TRY(sink->open());
    return std::unique_ptr<Sink>(std::move(sink));
  });
}

}  // namespace cdna
