// Folders of v2 files: what the manifest says of each tensor is compared with what its file says.
#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "libcdna/import/helix/helix_model.hpp"
#include "libcdna/import/helix/json_object.hpp"
#include "libcdna/import/json.hpp"
#include "libcdna/import/numpy/open_array.hpp"
#include "libcdna/import/source_integrity.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr const char* kManifestName = "manifest.json";
constexpr std::uint64_t kManifestBytesMax = 100'000'000;  // As of other indices: an entry for each tensor.
constexpr std::string_view kHybridSchema = "cdna_hybrid_manifest_v2";

Error of_tensor(Error error, const std::string& tensor) {
  if (error.item.empty()) error.item = tensor;
  return error;
}

Result<JsonObject> read_manifest(const Folder& folder) {
  const auto source = CDNA_TRY(folder.open_file(kManifestName));
  Error too_long = fail(Code::limit, "", "a manifest of over " + std::to_string(kManifestBytesMax) + " bytes");
  too_long.file = folder.path_of(kManifestName);
  if (source->size_bytes() > kManifestBytesMax) return too_long;
  std::string text(source->size_bytes(), '\0');
  if (!text.empty()) CDNA_TRY(source->read_at(0, std::as_writable_bytes(std::span(text))));
  auto manifest = parse_json_object(text);
  if (!manifest) manifest.error().file = folder.path_of(kManifestName);
  return manifest;
}

bool has_text(const JsonObject& object, const char* key, std::string_view wanted) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() && found->get_ref<const std::string&>() == wanted;
}

bool is_hybrid(const JsonObject& manifest) {
  const auto shards = manifest.find("shards");
  return has_text(manifest, "schema", kHybridSchema) || (shards != manifest.end() && shards->is_array());
}

bool is_converted(const JsonObject& manifest) { return has_text(manifest, "format", "cdna_v2"); }

// Collects the tensors of a manifest.
class FolderReader {
 public:
  FolderReader(const Folder& folder, const JsonObject& manifest) : folder_(folder), manifest_(manifest) {}

  Result<void> read_converted() {
    const auto tensors = manifest_.find("tensors");
    CDNA_CHECK(tensors != manifest_.end() && tensors->is_object(), Code::malformed, "", "has no object \"tensors\"");
    for (const auto& entry : tensors->items()) {
      auto added = add_converted(entry.key(), entry.value());
      if (!added) return of_tensor(std::move(added).error(), entry.key());
    }
    add_metadata(manifest_, "helix", {"tensors"}, metadata_);
    return {};
  }

  Result<void> read_hybrid() {
    const auto shards = manifest_.find("shards");
    CDNA_CHECK(shards != manifest_.end() && shards->is_array(), Code::malformed, "", "has no list \"shards\"");
    sidecar_folder_ = CDNA_TRY(text_field(manifest_, "sidecar_dir")).value_or("");
    for (const JsonObject& shard : *shards) {
      CDNA_CHECK(shard.is_object(), Code::malformed, "", "an entry of \"shards\" is not an object");
      const auto name = CDNA_TRY(text_field(shard, "tensor_name"));
      CDNA_CHECK(name, Code::malformed, "", "an entry of \"shards\" has no \"tensor_name\"");
      auto added = add_shard(*name, shard);
      if (!added) return of_tensor(std::move(added).error(), *name);
    }
    add_metadata(manifest_, "helix", {"shards", "sidecar_dir"}, metadata_);
    return {};
  }

  Result<std::unique_ptr<Model>> finish() {
    state_integrity(has_unhashed_ ? "none" : "payload only",
                    has_unhashed_ ? "not every file of the folder has a hash"
                                  : "CDNA v2 has SHA-256 of the indices; codebooks, headers, arrays, sidecars and the "
                                    "manifest have none",
                    metadata_, notes_);
    std::vector<std::string> used{kManifestName};
    for (const auto& file : tensor_of_file_) used.push_back(file.first.substr(0, file.first.find('/')));
    std::sort(used.begin(), used.end());
    std::vector<AssetFile> assets;
    std::vector<Note> left_out;
    CDNA_TRY(collect_files(folder_, used, assets, left_out));
    for (std::string& line : lines_of(std::move(left_out))) notes_.push_back(std::move(line));
    return std::unique_ptr<Model>(
        std::make_unique<HelixModel>(std::move(tensors_), std::move(metadata_), std::move(assets), std::move(notes_)));
  }

 private:
  // Two tensors of one file: their names became the same in the original, and the second replaced the first.
  Result<void> take_file(const std::string& file, const std::string& tensor) {
    const auto [taken, is_new] = tensor_of_file_.try_emplace(file, tensor);
    CDNA_CHECK(is_new, Code::malformed, "",
               "has the same file, " + quote(file) + ", as tensor " + quote(taken->second) +
                   ": one of them was lost when they were written");
    return {};
  }

  Result<void> add_converted(const std::string& name, const JsonObject& entry) {
    CDNA_CHECK(entry.is_object(), Code::malformed, "", "its entry of the manifest is not an object");
    const std::string format = CDNA_TRY(text_field(entry, "format")).value_or("");
    if (format == "npy") return add_array(name, entry);
    CDNA_CHECK(format == "cdna_v2", Code::unsupported, "",
               "its format is " + quote(format) + "; \"npy\" and \"cdna_v2\" are read");
    const auto file = CDNA_TRY(text_field(entry, "file"));
    CDNA_CHECK(file, Code::malformed, "", "its entry of the manifest has no \"file\"");
    auto original = CDNA_TRY(shape_field(entry, "original_shape"));
    const auto stored = CDNA_TRY(shape_field(entry, "cdna_shape"));
    return add_matrix(name, *file, std::move(original), stored, "");
  }

  // HF names are file names as they are, those of GGUF have '_' for '.'; the manifest does not say which.
  Result<std::string> array_file(const std::string& name) const {
    std::string underscored = name;
    std::replace(underscored.begin(), underscored.end(), '.', '_');
    const std::string raw_file = name + ".npy";
    std::string underscored_file = underscored + ".npy";
    const bool is_raw = !manifest_.contains("source_gguf") ? CDNA_TRY(folder_.has_file(raw_file))
                                                           : !CDNA_TRY(folder_.has_file(underscored_file));
    return is_raw ? raw_file : underscored_file;
  }

  Result<void> add_array(const std::string& name, const JsonObject& entry) {
    const std::string file = CDNA_TRY(array_file(name));
    CDNA_TRY(take_file(file, name));
    HelixTensor tensor;
    tensor.array = CDNA_TRY(folder_.open_file(file));
    tensor.array_header = CDNA_TRY(read_npy_header(*tensor.array));
    tensor.description = array_tensor(name, tensor.array_header);
    const auto shape = CDNA_TRY(shape_field(entry, "shape"));
    if (shape && *shape != tensor.description.shape) {
      Error error = fail(Code::malformed, "", "its shape in the manifest is another than in its file");
      error.file = folder_.path_of(file);
      return error;
    }
    return add(std::move(tensor));
  }

  Result<void> add_shard(const std::string& name, const JsonObject& shard) {
    const auto path = CDNA_TRY(text_field(shard, "path"));
    CDNA_CHECK(path, Code::malformed, "", "its entry of the manifest has no \"path\"");
    auto shape = CDNA_TRY(shape_field(shard, "shape"));
    const std::string sidecar = CDNA_TRY(text_field(shard, "outlier_sidecar_path")).value_or("");
    return add_matrix(name, *path, std::move(shape), std::nullopt, sidecar);
  }

  Result<void> add_matrix(const std::string& name, const std::string& file,
                          std::optional<std::vector<std::uint64_t>> original,
                          const std::optional<std::vector<std::uint64_t>>& stored, const std::string& sidecar) {
    CDNA_TRY(take_file(file, name));
    auto source = CDNA_TRY(folder_.open_file(file));
    auto matrix = CDNA_TRY(open_hxz(std::move(source)));
    auto checked = check_matrix(matrix.get(), name, stored);
    if (!checked) {
      checked.error().file = folder_.path_of(file);
      return checked;
    }
    has_unhashed_ = has_unhashed_ || matrix->integrity() == "none";
    for (const auto& field : matrix->header().metadata) {
      if (field.first == "helix:fidelity_stats") metadata_["helix@" + name + ":fidelity_stats"] = field.second;
    }
    auto tensor = CDNA_TRY(helix_tensor(std::move(matrix), name, std::move(original)));
    CDNA_TRY(add_sidecar(file, sidecar, tensor));
    return add(std::move(tensor));
  }

  // The original wrote another tensor's file where two names became the same.
  static Result<void> check_matrix(const HxzMatrix* matrix, const std::string& name,
                                   const std::optional<std::vector<std::uint64_t>>& stored) {
    CDNA_CHECK(matrix != nullptr, Code::malformed, "", "neither an HXZC nor an HXZ2 file", 0);
    const HxzHeader& header = matrix->header();
    CDNA_CHECK(header.tensor_name.empty() || header.tensor_name == name, Code::malformed, "",
               "the file is of tensor " + quote(header.tensor_name) + ", in the manifest it is of " + quote(name));
    CDNA_CHECK(!stored || *stored == std::vector({header.rows, header.cols}), Code::malformed, "",
               "\"cdna_shape\" in the manifest is not the shape in the file");
    return {};
  }

  // `stated`, or what lies where sidecars do.
  Result<void> add_sidecar(const std::string& file, const std::string& stated, HelixTensor& tensor) {
    std::string path = stated;
    if (path.empty()) path = CDNA_TRY(find_sidecar(file, tensor.description.name));
    if (path.empty()) return {};
    CDNA_TRY(take_file(path, tensor.description.name));
    const auto source = CDNA_TRY(folder_.open_file(path));
    HxzoSidecar sidecar = CDNA_TRY(read_hxzo(*source));
    return join_sidecar(std::move(sidecar), tensor, false, notes_);
  }

  Result<std::string> find_sidecar(const std::string& file, const std::string& tensor) const {
    constexpr std::string_view kEnding = ".cdna2.hxz";
    std::vector<std::string> places;
    if (!sidecar_folder_.empty() && sidecar_folder_ != ".")
      places.push_back(sidecar_folder_ + (sidecar_folder_.ends_with('/') ? "" : "/") + helix_file_name(tensor) +
                       ".hxzo");
    if (file.ends_with(kEnding)) places.push_back(file.substr(0, file.size() - kEnding.size()) + ".hxzo");
    places.push_back(helix_file_name(tensor) + ".hxzo");
    for (const std::string& place : places) {
      if (CDNA_TRY(folder_.has_file(place))) return place;
    }
    return std::string();
  }

  Result<void> add(HelixTensor tensor) {
    CDNA_CHECK(names_.insert(tensor.description.name).second, Code::malformed, "", "occurs twice in the manifest");
    tensors_.push_back(std::move(tensor));
    return {};
  }

  const Folder& folder_;
  const JsonObject& manifest_;
  std::string sidecar_folder_;
  bool has_unhashed_ = false;
  std::map<std::string, std::string> tensor_of_file_;
  std::set<std::string> names_;
  std::vector<HelixTensor> tensors_;
  Metadata metadata_;
  std::vector<std::string> notes_;
};

// Errors about no file in particular are about the manifest.
Error in_manifest(Error error, const Folder& folder) {
  if (error.file.empty()) error.file = folder.path_of(kManifestName);
  return error;
}

}  // namespace

Result<bool> is_helix_v2_folder(const Folder& folder) {
  if (!folder.has(kManifestName) || CDNA_TRY(folder.kind_within(kManifestName)) != EntryKind::file) return false;
  const auto manifest = read_manifest(folder);
  if (manifest) return is_converted(*manifest) || is_hybrid(*manifest);
  if (manifest.error().code == Code::malformed || manifest.error().code == Code::limit) return false;
  return manifest.error();
}

Result<std::unique_ptr<Model>> open_helix_v2(const Folder& folder) {
  const JsonObject manifest = CDNA_TRY(read_manifest(folder));
  FolderReader reader(folder, manifest);
  Result<void> read;
  if (is_converted(manifest)) {
    read = reader.read_converted();
  } else if (is_hybrid(manifest)) {
    read = reader.read_hybrid();
  } else {
    read = fail(Code::unsupported, "", "not a manifest of CDNA v2: neither \"format\": \"cdna_v2\" nor \"shards\"");
  }
  if (!read) return in_manifest(std::move(read).error(), folder);
  return reader.finish();
}

}  // namespace cdna
