// Opens a Hugging Face folder: chooses its weight files, keeps its small files as assets, and notes what it leaves out.
#include "libcdna/import/hugging_face.hpp"

#include <algorithm>
#include <cassert>
#include <optional>
#include <utility>

#include "libcdna/import/asset_files.hpp"
#include "libcdna/import/folder.hpp"
#include "libcdna/import/hugging_face_index.hpp"
#include "libcdna/import/shards.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr const char* kConfigName = "config.json";
constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr const char* kSingleName = "model.safetensors";

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
