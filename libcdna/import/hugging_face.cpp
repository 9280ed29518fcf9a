// Opens a Hugging Face folder: chooses its weight files, keeps its small files as assets, and notes what it leaves out.
#include "libcdna/import/hugging_face.hpp"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <optional>
#include <utility>

#include "libcdna/import/hugging_face_index.hpp"
#include "libcdna/import/shards.hpp"
#include "libcdna/io/descriptor.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr const char* kConfigName = "config.json";
constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr const char* kSingleName = "model.safetensors";

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
  Error fail_here(Code code, std::string message) const;
  // The same result; an error about no file in particular names the folder.
  template <class T>
  Result<T> named(Result<T> result) const {
    if (!result && result.error().file.empty()) result.error().file = path_;
    return result;
  }

 private:
  Folder(std::string path, Descriptor descriptor) : path_(std::move(path)), descriptor_(std::move(descriptor)) {}
  std::string path_;
  Descriptor descriptor_;
  std::vector<std::string> names_;
};

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

// Whether the text of a link leads to a file of the same folder, or is one that the Hub's cache makes: its snapshots
// are links to ../../blobs/DIGEST.
bool stays_within(std::string_view target) {
  constexpr std::string_view kBlobs = "../../blobs/";
  if (target.starts_with(kBlobs)) target.remove_prefix(kBlobs.size());
  return target.find('/') == std::string_view::npos && target != ".." && !target.empty();
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

struct AssetFile {
  ModelAsset description;
  std::unique_ptr<Source> source;
};

struct Note {
  std::string name;
  std::string text;
};

class HuggingFaceModel final : public Model {
 public:
  HuggingFaceModel(std::vector<Shard> shards, MergedShards merged, std::vector<AssetFile> assets,
                   std::vector<std::string> notes)
      : shards_(std::move(shards)), merged_(std::move(merged)), notes_(std::move(notes)) {
    for (AssetFile& asset : assets) {
      assets_.push_back(std::move(asset.description));
      asset_sources_.push_back(std::move(asset.source));
    }
  }

  std::span<const ModelTensor> tensors() const override { return merged_.tensors; }
  const Metadata& metadata() const override { return merged_.metadata; }
  std::span<const ModelAsset> assets() const override { return assets_; }
  std::span<const std::string> notes() const override { return notes_; }

  Result<void> read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) const override {
    assert(tensor < merged_.places.size());
    const MergedShards::Place place = merged_.places[tensor];
    return shards_[place.shard].model->read(place.tensor, offset, out);
  }

  Result<void> read_asset(std::size_t asset, std::uint64_t offset, std::span<std::byte> out) const override {
    assert(asset < assets_.size() && offset <= assets_[asset].size_bytes);
    assert(out.size() <= assets_[asset].size_bytes - offset);
    if (out.empty()) return {};
    return asset_sources_[asset]->read_at(offset, out);
  }

 private:
  std::vector<Shard> shards_;
  MergedShards merged_;
  std::vector<ModelAsset> assets_;
  std::vector<std::unique_ptr<Source>> asset_sources_;
  std::vector<std::string> notes_;
};

Result<ShardIndex> read_index(const Folder& folder) {
  const std::string path = folder.path_of(kIndexName);
  const auto source = CDNA_TRY(open_source(path, Io::pread, folder.file_system()));
  Error too_long = fail(Code::limit, "", "an index of over " + std::to_string(kIndexBytesMax) + " bytes");
  too_long.file = path;
  if (source->size_bytes() > kIndexBytesMax) return too_long;
  std::string json(static_cast<std::size_t>(source->size_bytes()), '\0');
  if (!json.empty()) CDNA_TRY(source->read_at(0, std::as_writable_bytes(std::span(json))));
  auto index = parse_shard_index(json);
  if (!index) index.error().file = path;
  return index;
}

// The one weight file of a folder without an index.
Result<std::string> find_single_file(const Folder& folder) {
  if (folder.has(kSingleName)) return std::string(kSingleName);
  std::vector<std::string> found;
  for (const std::string& name : folder.names()) {
    if (name.ends_with(".safetensors") && !name.starts_with('.')) found.push_back(name);
  }
  if (found.size() == 1) return found.front();
  constexpr std::string_view kWanted = "model.safetensors.index.json, model.safetensors or one other *.safetensors";
  if (found.empty()) return folder.fail_here(Code::not_found, "has no " + std::string(kWanted));
  constexpr std::size_t kListedMax = 10;
  std::string list;
  for (std::size_t i = 0; i < std::min(found.size(), kListedMax); ++i) list += (i == 0 ? "" : ", ") + found[i];
  if (found.size() > kListedMax) list += ", ...";
  return folder.fail_here(Code::malformed, "has " + std::to_string(found.size()) + " safetensors files (" + list +
                                               "); wanted: " + std::string(kWanted));
}

Result<std::vector<std::string>> weight_names(const Folder& folder, const std::optional<ShardIndex>& index) {
  if (index) return index->shards;
  return std::vector<std::string>{CDNA_TRY(find_single_file(folder))};
}

Result<std::vector<Shard>> open_shards(const Folder& folder, const std::vector<std::string>& names) {
  std::vector<Shard> shards;
  for (const std::string& name : names) {
    auto model = CDNA_TRY(open_safetensors_file(folder.path_of(name), folder.file_system()));
    shards.push_back({name, std::move(model)});
  }
  return shards;
}

Result<AssetFile> open_asset(const Folder& folder, const std::string& name, std::string_view media_type) {
  AssetFile asset;
  asset.source = CDNA_TRY(open_source(folder.path_of(name), Io::pread, folder.file_system()));
  asset.description = {name, std::string(media_type), asset.source->size_bytes()};
  return asset;
}

// Why an entry cannot be an asset whatever its name; "" for regular files.
std::string_view obstacle(EntryKind kind) {
  switch (kind) {
    case EntryKind::file:
      return "";
    case EntryKind::folder:
      return "a folder; only the top level is read";
    case EntryKind::dangling_link:
      return "a link to nothing";
    case EntryKind::outward_link:
      return "a link to a file outside of the folder, which is not followed";
    case EntryKind::other:
      return "not a regular file";
  }
  return "";
}

// Sorts everything but the weights in use into assets and notes. Requires: `weights` sorted.
Result<void> collect_files(const Folder& folder, const std::vector<std::string>& weights,
                           std::vector<AssetFile>& assets, std::vector<Note>& notes) {
  for (const std::string& name : folder.names()) {
    if (std::binary_search(weights.begin(), weights.end(), name)) continue;
    const EntryKind kind = CDNA_TRY(folder.kind_within(name));
    const FileUse use = use_of(name);
    if (kind == EntryKind::file && !use.media_type.empty()) {
      assets.push_back(CDNA_TRY(open_asset(folder, name, use.media_type)));
      continue;
    }
    const std::string_view reason = kind == EntryKind::file || name.starts_with('.') ? use.reason : obstacle(kind);
    notes.push_back({name, std::string(reason)});
  }
  return {};
}

// In name order, printable.
std::vector<std::string> lines_of(std::vector<Note> notes) {
  std::stable_sort(notes.begin(), notes.end(), [](const Note& a, const Note& b) { return a.name < b.name; });
  std::vector<std::string> lines;
  for (const Note& note : notes) lines.push_back(escape(note.name) + ": " + escape(note.text));
  return lines;
}

Result<void> check_config(const Folder& folder) {
  if (!folder.has(kConfigName)) {
    return folder.fail_here(Code::not_found, "not a Hugging Face model folder: it has no config.json");
  }
  if (CDNA_TRY(folder.kind_of(kConfigName)) == EntryKind::file) return {};
  return folder.fail_here(Code::malformed, "config.json is not a regular file");
}

}  // namespace

Result<std::unique_ptr<Model>> open_hugging_face(const std::string& path, FileSystem& file_system) {
  const Folder folder = CDNA_TRY(Folder::open(path, file_system));
  CDNA_TRY(check_config(folder));
  std::optional<ShardIndex> index;
  if (folder.has(kIndexName)) index = CDNA_TRY(read_index(folder));
  std::vector<std::string> names = CDNA_TRY(weight_names(folder, index));
  std::vector<Shard> shards = CDNA_TRY(open_shards(folder, names));
  MergedShards merged = CDNA_TRY(folder.named(merge_shards(shards)));
  if (index) CDNA_TRY(folder.named(check_shard_index(*index, merged)));

  std::vector<AssetFile> assets;
  std::vector<Note> notes;
  for (ShardNote& note : merged.notes) notes.push_back({std::move(note.shard), std::move(note.text)});
  if (index) names.push_back(kIndexName);
  std::sort(names.begin(), names.end());
  CDNA_TRY(collect_files(folder, names, assets, notes));
  return std::unique_ptr<Model>(std::make_unique<HuggingFaceModel>(std::move(shards), std::move(merged),
                                                                   std::move(assets), lines_of(std::move(notes))));
}

}  // namespace cdna
