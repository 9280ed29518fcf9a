// The simulated calls.
#include "recording_file_system.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace cdna::test {
namespace {

constexpr std::string_view kProc = "/proc/self/fd";

[[noreturn]] void not_modelled(const std::string& what) {
  throw std::logic_error("recording file system: " + what + " is not modelled");
}

}  // namespace

void Disk::put(const std::string& name, std::vector<std::byte> bytes, mode_t mode) {
  names[name] = files.size();
  files.push_back({std::move(bytes), mode});
}

const MemoryFile* Disk::find(const std::string& name) const {
  const auto found = names.find(name);
  return found == names.end() ? nullptr : &files[found->second];
}

void apply(const Change& change, Disk& disk) {
  switch (change.kind) {
    case Change::Kind::write: {
      std::vector<std::byte>& bytes = disk.files[change.file].bytes;
      bytes.resize(std::max<std::size_t>(bytes.size(), change.offset + change.bytes.size()));
      std::copy(change.bytes.begin(), change.bytes.end(), bytes.begin() + static_cast<std::ptrdiff_t>(change.offset));
      return;
    }
    case Change::Kind::set_mode:
      disk.files[change.file].mode = change.mode;
      return;
    case Change::Kind::link:
      disk.names[change.name] = change.file;
      return;
    case Change::Kind::unlink:
      disk.names.erase(change.name);
      return;
    case Change::Kind::rename:
      disk.names.erase(change.old_name);
      disk.names[change.name] = change.file;
      return;
    case Change::Kind::sync_file:
    case Change::Kind::sync_folder:
      return;
  }
}

void RecordingFileSystem::record(Change change) {
  apply(change, disk_);
  changes_.push_back(std::move(change));
}

int RecordingFileSystem::add_open(Open open) {
  open_[next_fd_] = open;
  return next_fd_++;
}

int RecordingFileSystem::add_file(mode_t mode) {
  // The file is there in the same moment on both sides; only its names, bytes and mode may be lost.
  disk_.files.push_back({{}, mode});
  durable_.files.push_back({{}, mode});
  return add_open({Opened::file, disk_.files.size() - 1, 0, true, false});
}

RecordingFileSystem::Open& RecordingFileSystem::open_of(int fd, Opened what) {
  const auto found = open_.find(fd);
  if (found == open_.end()) throw std::logic_error("recording file system: a descriptor that is not open");
  if (found->second.what != what) not_modelled("this call on this kind of descriptor");
  return found->second;
}

std::optional<std::size_t> RecordingFileSystem::file_of(int directory, const char* name) {
  open_of(directory, Opened::folder);
  if (std::strchr(name, '/') != nullptr) not_modelled(std::string("the path ") + name);
  const auto found = disk_.names.find(name);
  return found == disk_.names.end() ? std::nullopt : std::optional(found->second);
}

int RecordingFileSystem::openat(int directory, const char* path, int flags, mode_t mode) {
  if (directory == AT_FDCWD && path == kProc) return add_open({Opened::proc, 0, 0, false, false});
  if (directory == AT_FDCWD && path == std::string_view(kFolder) && (flags & O_DIRECTORY) != 0)
    return add_open({Opened::folder, 0, 0, false, false});
  if ((flags & O_TMPFILE) == O_TMPFILE) {
    open_of(directory, Opened::folder);
    return has_tmpfile ? add_file(mode & ~mode_t{022}) : -EOPNOTSUPP;
  }
  const auto file = file_of(directory, path);
  if ((flags & O_CREAT) != 0) {
    if ((flags & O_EXCL) == 0) not_modelled("O_CREAT without O_EXCL");
    if (file) return -EEXIST;
    const int fd = add_file(mode & ~mode_t{022});
    record({Change::Kind::link, disk_.files.size() - 1, 0, {}, 0, path, {}});
    return fd;
  }
  if ((flags & (O_ACCMODE | O_TRUNC)) != O_RDONLY) not_modelled("opening an existing file for writing");
  return file ? add_open({Opened::file, *file, 0, false, false}) : -ENOENT;
}

int RecordingFileSystem::close(int fd) {
  if (open_.erase(fd) == 0) throw std::logic_error("recording file system: closed twice");
  return 0;
}

void RecordingFileSystem::fill(std::size_t file, struct stat* out) const {
  *out = {};
  out->st_mode = S_IFREG | disk_.files[file].mode;
  out->st_size = static_cast<off_t>(disk_.files[file].bytes.size());
  out->st_nlink = static_cast<nlink_t>(
      std::count_if(disk_.names.begin(), disk_.names.end(), [&](const auto& entry) { return entry.second == file; }));
}

int RecordingFileSystem::fstat(int fd, struct stat* out) {
  fill(open_of(fd, Opened::file).file, out);
  return 0;
}

int RecordingFileSystem::fstatat(int directory, const char* path, struct stat* out, int) {
  const auto file = file_of(directory, path);
  if (!file) return -ENOENT;
  fill(*file, out);
  return 0;
}

int64_t RecordingFileSystem::fstatfs_type(int) { not_modelled("fstatfs"); }

int64_t RecordingFileSystem::pread(int, void*, std::size_t, std::uint64_t) { not_modelled("pread"); }

int64_t RecordingFileSystem::write(int fd, const void* data, std::size_t size) {
  Open& open = open_of(fd, Opened::file);
  if (!open.writable) return -EBADF;
  const auto* const begin = static_cast<const std::byte*>(data);
  record({Change::Kind::write, open.file, open.offset, {begin, begin + size}, 0, {}, {}});
  open.offset += size;
  return static_cast<int64_t>(size);
}

int RecordingFileSystem::fsync(int fd) {
  const auto found = open_.find(fd);
  if (found == open_.end()) throw std::logic_error("recording file system: fsync of what is not open");
  const bool of_folder = found->second.what == Opened::folder;
  if (instead_of_fsync) {
    if (const auto result = instead_of_fsync(of_folder)) return *result;
  }
  record({of_folder ? Change::Kind::sync_folder : Change::Kind::sync_file, found->second.file, 0, {}, 0, {}, {}});
  return 0;
}

int RecordingFileSystem::fchmod(int fd, mode_t mode) {
  record({Change::Kind::set_mode, open_of(fd, Opened::file).file, 0, {}, mode, {}, {}});
  return 0;
}

int RecordingFileSystem::flock(int fd, int operation) {
  Open& open = open_of(fd, Opened::file);
  if (operation != (LOCK_EX | LOCK_NB)) not_modelled("this kind of lock");
  for (const auto& [other, entry] : open_) {
    if (other != fd && entry.locked && entry.file == open.file) return -EWOULDBLOCK;
  }
  open.locked = true;
  return 0;
}

int RecordingFileSystem::linkat(int from_directory, const char* from, int to_directory, const char* to, int flags) {
  if (before_naming) std::exchange(before_naming, nullptr)();
  std::optional<std::size_t> file;
  if (from_directory == AT_FDCWD && std::string_view(from).substr(0, kProc.size()) == kProc) {
    if ((flags & AT_SYMLINK_FOLLOW) == 0) not_modelled("a link to the link in /proc");
    file = open_of(std::stoi(from + kProc.size() + 1), Opened::file).file;
  } else {
    file = file_of(from_directory, from);
  }
  if (!file) return -ENOENT;
  if (!has_hard_links) return -EPERM;
  if (file_of(to_directory, to)) return -EEXIST;
  record({Change::Kind::link, *file, 0, {}, 0, to, {}});
  return 0;
}

int RecordingFileSystem::rename_new(int directory, const char* from, const char* to) {
  return file_of(directory, to) ? -EEXIST : renameat(directory, from, to);
}

int RecordingFileSystem::renameat(int directory, const char* from, const char* to) {
  const auto file = file_of(directory, from);
  if (!file) return -ENOENT;
  if (file_of(directory, to) == file) return 0;  // Two names of one file: POSIX does nothing.
  record({Change::Kind::rename, *file, 0, {}, 0, to, from});
  return 0;
}

int RecordingFileSystem::unlinkat(int directory, const char* name) {
  if (!file_of(directory, name)) return -ENOENT;
  record({Change::Kind::unlink, 0, 0, {}, 0, name, {}});
  return 0;
}

int RecordingFileSystem::list(int directory, std::vector<std::string>& out) {
  open_of(directory, Opened::folder);
  for (const auto& [name, file] : disk_.names) out.push_back(name);
  return 0;
}

}  // namespace cdna::test
