// Looks at the entries of a folder without following links to elsewhere.
#include "libcdna/import/folder.hpp"

#include <fcntl.h>

#include <array>
#include <cerrno>

#include "libcdna/import/file_names.hpp"
#include "libcdna/import/json.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

// Whether the text of a link leads to a file of the same folder, or is one that the Hub's cache makes: its snapshots
// are links to ../../blobs/DIGEST.
bool stays_within(std::string_view target) {
  constexpr std::string_view kBlobs = "../../blobs/";
  if (target.starts_with(kBlobs)) target.remove_prefix(kBlobs.size());
  return target.find('/') == std::string_view::npos && target != ".." && !target.empty();
}

}  // namespace

Result<Folder> Folder::open(const std::string& path, FileSystem& file_system) {
  const int fd = open_retrying(file_system, AT_FDCWD, path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fail_io("cannot open the folder", fd, path);
  Folder folder(path, Descriptor(fd, file_system));
  const int listed = list_retrying(file_system, fd, folder.names_);
  if (listed < 0) return fail_io("cannot list the folder", listed, path);
  std::sort(folder.names_.begin(), folder.names_.end());
  return folder;
}

Result<EntryKind> Folder::kind_of(const std::string& name) const {
  struct stat status {};
  const int result = retrying(file_system(), &FileSystem::fstatat, descriptor_.get(), name.c_str(), &status, 0);
  if (result == -ENOENT || result == -ELOOP || result == -ENOTDIR) return EntryKind::dangling_link;
  if (result < 0) return fail_io("cannot look at the file", result, path_of(name));
  if (S_ISREG(status.st_mode)) return EntryKind::file;
  return S_ISDIR(status.st_mode) ? EntryKind::folder : EntryKind::other;
}

Result<EntryKind> Folder::kind_within(const std::string& name) const {
  std::array<char, 4096> target;
  const std::int64_t size =
      retrying(file_system(), &FileSystem::readlinkat, descriptor_.get(), name.c_str(), target.data(), target.size());
  if (size < 0 && size != -EINVAL) return fail_io("cannot look at the file", size, path_of(name));  // EINVAL: no link.
  const EntryKind kind = CDNA_TRY(kind_of(name));
  if (size < 0 || kind != EntryKind::file) return kind;
  const std::string goal(target.data(), static_cast<std::size_t>(size));
  struct stat status {};  // Of what the link names: another link could lead anywhere.
  const int result =
      retrying(file_system(), &FileSystem::fstatat, descriptor_.get(), goal.c_str(), &status, AT_SYMLINK_NOFOLLOW);
  const bool within = stays_within(goal) && result == 0 && S_ISREG(status.st_mode);
  return within ? EntryKind::file : EntryKind::outward_link;
}

Error Folder::fail_here(Code code, std::string message) const {
  Error error = fail(code, "", std::move(message));
  error.file = path_;
  return error;
}

Result<EntryKind> Folder::kind_on_way(std::string_view name) const {
  if (!is_inner_path(name))
    return fail_here(Code::malformed, quote(name) + " is not the name of a file within the folder");
  for (std::size_t end = 0; end != name.size();) {
    const std::size_t begin = end;
    end = std::min(name.find('/', begin + 1), name.size());
    const std::string way(name.substr(0, end));
    if (begin == 0 && end == name.size()) return has(way) ? kind_within(way) : EntryKind::dangling_link;
    struct stat status {};
    const int result =
        retrying(file_system(), &FileSystem::fstatat, descriptor_.get(), way.c_str(), &status, AT_SYMLINK_NOFOLLOW);
    if (result == -ENOENT || result == -ENOTDIR || result == -ENAMETOOLONG) return EntryKind::dangling_link;
    if (result < 0) return fail_io("cannot look at the file", result, path_of(way));
    if (S_ISLNK(status.st_mode)) return EntryKind::outward_link;
    if (end == name.size() && S_ISREG(status.st_mode)) return EntryKind::file;
    if (!S_ISDIR(status.st_mode)) return EntryKind::other;
  }
  return EntryKind::folder;
}

Result<bool> Folder::has_file(std::string_view name) const {
  return CDNA_TRY(kind_on_way(name)) != EntryKind::dangling_link;
}

Result<std::unique_ptr<Source>> Folder::open_file(std::string_view name) const {
  const EntryKind kind = CDNA_TRY(kind_on_way(name));
  const std::string path = path_of(std::string(name));
  if (kind == EntryKind::file) return files_->open(path);
  const bool is_missing = kind == EntryKind::dangling_link;
  Error error = fail(is_missing ? Code::not_found : Code::malformed, "",
                     is_missing                        ? "the manifest names this file, which is not there"
                     : kind == EntryKind::outward_link ? "the manifest names a link, which is not followed"
                                                       : "the manifest names what is not a regular file");
  error.file = path;
  return error;
}

}  // namespace cdna
