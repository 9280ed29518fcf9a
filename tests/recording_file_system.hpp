// A file system in memory with one folder, which remembers every change: what may be left of it after a power loss is
// computed from that (power_loss.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/file_system.hpp"

namespace cdna::test {

// A file as such; its names are the folder's.
struct MemoryFile {
  std::vector<std::byte> bytes;
  mode_t mode = 0;
};

// A folder and its files, which are numbered.
struct Disk {
  std::vector<MemoryFile> files;
  std::map<std::string, std::size_t> names;

  void put(const std::string& name, std::vector<std::byte> bytes, mode_t mode = 0644);
  // Of a name; nullptr where there is none.
  const MemoryFile* find(const std::string& name) const;
};

// One change of a disk, or one call that makes earlier ones durable.
struct Change {
  enum class Kind { write, set_mode, sync_file, link, unlink, rename, sync_folder };
  Kind kind = Kind::write;
  std::size_t file = 0;          // All but unlink and sync_folder.
  std::uint64_t offset = 0;      // write
  std::vector<std::byte> bytes;  // write
  mode_t mode = 0;               // set_mode
  std::string name;              // link, unlink, rename: the name that comes or goes.
  std::string old_name;          // rename: the one that goes.
};

// Applies a change as a running system shows it; a sync changes nothing.
void apply(const Change& change, Disk& disk);

// What the library does with files, simulated: the folder is kFolder, and nothing else is there but /proc/self/fd. A
// call that is not modelled throws std::logic_error. Not shared between threads.
class RecordingFileSystem : public cdna::FileSystem {
 public:
  static constexpr const char* kFolder = "/disk";

  explicit RecordingFileSystem(Disk durable) : disk_(durable), durable_(std::move(durable)) {}

  bool has_tmpfile = true;     // False: O_TMPFILE is EOPNOTSUPP.
  bool has_hard_links = true;  // False: linkat is EPERM.
  // Called for each fsync; a result that is returned in its place, without anything done.
  std::function<std::optional<int>(bool of_folder)> instead_of_fsync;
  std::function<void()> before_naming;  // Runs once, before the first linkat: where a rival steps in.

  const Disk& durable() const { return durable_; }                 // Before the first change.
  const Disk& disk() const { return disk_; }                       // As it is now.
  const std::vector<Change>& changes() const { return changes_; }  // From the one to the other.
  std::size_t open_count() const { return open_.size(); }          // Descriptors.

  int openat(int directory, const char* path, int flags, mode_t mode) override;
  int close(int fd) override;
  int fstat(int fd, struct stat* out) override;
  int fstatat(int directory, const char* path, struct stat* out, int flags) override;
  int64_t fstatfs_type(int fd) override;
  int64_t pread(int fd, void* out, std::size_t size, std::uint64_t offset) override;
  int64_t write(int fd, const void* data, std::size_t size) override;
  int fsync(int fd) override;
  int fchmod(int fd, mode_t mode) override;
  int flock(int fd, int operation) override;
  int linkat(int from_directory, const char* from, int to_directory, const char* to, int flags) override;
  int rename_new(int directory, const char* from, const char* to) override;
  int renameat(int directory, const char* from, const char* to) override;
  int unlinkat(int directory, const char* name) override;
  int list(int directory, std::vector<std::string>& out) override;

 private:
  enum class Opened { folder, proc, file };
  struct Open {
    Opened what = Opened::file;
    std::size_t file = 0;
    std::uint64_t offset = 0;
    bool writable = false;
    bool locked = false;
  };

  void record(Change change);
  int add_open(Open open);
  int add_file(mode_t mode);
  Open& open_of(int fd, Opened what);
  std::optional<std::size_t> file_of(int directory, const char* name);
  void fill(std::size_t file, struct stat* out) const;

  Disk disk_;
  Disk durable_;
  std::vector<Change> changes_;
  std::map<int, Open> open_;
  int next_fd_ = 1000;  // Numbers that no real descriptor has: a call that gets by the seam fails.
};

}  // namespace cdna::test
