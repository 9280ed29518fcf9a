// A folder's tensors, sorted by name; its other files are assets.
#include "libcdna/import/helix/v3_folder.hpp"

#include <algorithm>
#include <cassert>
#include <optional>
#include <utility>
#include <variant>

#include "libcdna/import/asset_files.hpp"
#include "libcdna/import/decoded_values.hpp"
#include "libcdna/import/helix/receipt_notes.hpp"
#include "libcdna/import/helix/skipped_names.hpp"
#include "libcdna/import/helix/v3_manifest.hpp"
#include "libcdna/import/helix/v3_tensor.hpp"
#include "libcdna/import/numpy/npy.hpp"
#include "libcdna/import/numpy/open_array.hpp"
#include "libcdna/import/source_integrity.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::string_view kTensorEnding = ".cdnav3";
constexpr std::string_view kArrayEnding = ".npy";
constexpr std::string_view kCompanionEnding = ".npy.meta.json";

// A tensor that is stored exactly.
struct ExactArray {
  NpyHeader header;
  std::shared_ptr<const Source> source;
};

using Content = std::variant<V3Tensor, ExactArray>;

struct Entry {
  std::string name;
  std::string place;  // Of the folder, for messages.
  Content content;
};

struct Parts {
  std::vector<Entry> entries;
  std::vector<AssetFile> assets;
  std::vector<Note> notes;
  std::vector<std::string> lines;  // Notes that are whole already.
};

ModelTensor description_of(const Entry& entry) {
  ModelTensor tensor;
  tensor.name = entry.name;
  tensor.dtype = DType::f32;
  if (const auto* const array = std::get_if<ExactArray>(&entry.content)) {
    tensor.dtype = array->header.dtype;
    tensor.shape = array->header.shape;
    tensor.size_bytes = array->header.size_bytes;
    return tensor;
  }
  const auto& content = std::get<V3Tensor>(entry.content);
  tensor.shape = content.shape();
  tensor.is_encoded = content.is_encoded() && fits_codes(tensor.dtype, tensor.shape);
  tensor.size_bytes = sizeof(float);
  for (const std::uint64_t size : tensor.shape) tensor.size_bytes *= size;
  return tensor;
}

// JSON as Python writes it may have NaN, which is none for others.
MetadataValue text_value(const std::string& text) {
  const bool is_json = text.find("NaN") == std::string::npos && text.find("Infinity") == std::string::npos;
  return is_json ? MetadataValue(JsonText{text}) : MetadataValue(text);
}

class V3Model final : public Model {
 public:
  // Requires: entries sorted by name, unique.
  explicit V3Model(Parts parts) : entries_(std::move(parts.entries)), notes_(lines_of(std::move(parts.notes))) {
    notes_.insert(notes_.end(), parts.lines.begin(), parts.lines.end());
    for (const Entry& entry : entries_) {
      tensors_.push_back(description_of(entry));
      const auto* const tensor = std::get_if<V3Tensor>(&entry.content);
      if (tensor == nullptr) continue;
      metadata_["helix:meta:" + entry.name] = text_value(tensor->meta_text());
      if (!tensor->stats_text().empty()) metadata_["helix:stats:" + entry.name] = text_value(tensor->stats_text());
    }
    for (AssetFile& asset : parts.assets) {
      assets_.push_back(std::move(asset.description));
      asset_sources_.push_back(std::move(asset.source));
    }
    state_integrity("codebook only", "no hash covers indices, sidecars and exact tensors", metadata_, notes_);
  }

  std::span<const ModelTensor> tensors() const override { return tensors_; }
  const Metadata& metadata() const override { return metadata_; }
  std::span<const ModelAsset> assets() const override { return assets_; }
  std::span<const std::string> notes() const override { return notes_; }

  Result<void> read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) const override {
    assert(tensor < tensors_.size() && offset <= tensors_[tensor].size_bytes);
    assert(out.size() <= tensors_[tensor].size_bytes - offset);
    if (out.empty()) return {};
    return no_throw([&]() -> Result<void> {
      if (std::holds_alternative<ExactArray>(entries_[tensor].content)) return read_array(tensor, offset, out);
      const auto& content = std::get<V3Tensor>(entries_[tensor].content);
      if (!content.is_encoded()) return read_morpho(content, offset, out);
      const HeldPlanes held = CDNA_TRY(last_.get(tensor, [&](std::size_t) { return content.read_planes(); }));
      read_decoded(held.planes, DType::f32, tensors_[tensor].shape[1], offset, out);
      return {};
    });
  }

  Result<HeldPlanes> read_planes(std::size_t tensor) const override {
    assert(tensor < tensors_.size());
    if (!tensors_[tensor].is_encoded) return Model::read_planes(tensor);
    return no_throw([&] { return std::get<V3Tensor>(entries_[tensor].content).read_planes(); });
  }

  Result<void> read_asset(std::size_t asset, std::uint64_t offset, std::span<std::byte> out) const override {
    assert(asset < assets_.size() && offset <= assets_[asset].size_bytes);
    assert(out.size() <= assets_[asset].size_bytes - offset);
    if (out.empty()) return {};
    return asset_sources_[asset]->read_at(offset, out);
  }

 private:
  Result<void> read_array(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) const {
    const auto open = [this](std::size_t number) {
      const auto& array = std::get<ExactArray>(entries_[number].content);
      return OpenArray::open(array.source, array.header);
    };
    auto result = last_array_.read(tensor, open, offset, out);
    if (!result) result.error().item = entries_[tensor].name;
    return result;
  }

  static Result<void> read_morpho(const V3Tensor& tensor, std::uint64_t offset, std::span<std::byte> out) {
    const std::uint64_t begin = offset / sizeof(float);
    const std::uint64_t end = (offset + out.size() + sizeof(float) - 1) / sizeof(float);
    std::vector<float> values(end - begin);
    tensor.decode(begin, values);
    const auto bytes = std::as_bytes(std::span(values)).subspan(offset - begin * sizeof(float), out.size());
    std::copy(bytes.begin(), bytes.end(), out.begin());
    return {};
  }

  std::vector<Entry> entries_;
  std::vector<ModelTensor> tensors_;
  Metadata metadata_;
  std::vector<ModelAsset> assets_;
  std::vector<std::unique_ptr<Source>> asset_sources_;
  std::vector<std::string> notes_;
  LastPlanes last_;
  LastArray last_array_;
};

class FolderReader {
 public:
  FolderReader(const Folder& folder, SkippedNames& skipped, V3Manifest manifest)
      : folder_(folder), skipped_(skipped), manifest_(std::move(manifest)) {}

  Result<Parts> read() {
    for (const std::string& name : folder_.names()) {
      if (name.starts_with('.')) continue;
      if (name.ends_with(kTensorEnding)) CDNA_TRY(add_tensor(name));
      if (name.ends_with(kArrayEnding)) CDNA_TRY(add_array(name));
      if (name.ends_with(kCompanionEnding)) CDNA_TRY(add_companion(name));
    }
    std::sort(used_.begin(), used_.end());
    CDNA_TRY(sort_entries());
    CDNA_TRY(collect_files(folder_, used_, parts_.assets, parts_.notes));
    CDNA_TRY(note_bad_receipts());
    return std::move(parts_);
  }

 private:
  Error fail_at(const std::string& place, const std::string& tensor, Code code, std::string message) const {
    Error error = fail(code, "", std::move(message));
    error.file = folder_.path_of(place);
    error.item = tensor;
    return error;
  }

  void note(const std::string& place, std::string text) { parts_.notes.push_back({place, std::move(text)}); }

  // The manifest was made from the folder: where they differ a tensor was overwritten by another.
  Result<void> check_name(const std::string& place, const std::string& name) {
    if (manifest_.file.empty()) return {};
    const std::string listed = manifest_.name_of(place);
    if (listed.empty()) {
      note(place, "not in " + manifest_.file);
      return {};
    }
    if (listed == name) return {};
    return fail_at(place, name, Code::malformed,
                   manifest_.file + " says that " + escape(listed) +
                       " is here: names that differ in '.', '_' and '/' overwrote each other");
  }

  Result<void> add_tensor(const std::string& place) {
    used_.push_back(place);
    if (CDNA_TRY(folder_.kind_of(place)) != EntryKind::folder) {
      note(place, "not a folder");
      return {};
    }
    std::shared_ptr<const TensorFiles> files =
        CDNA_TRY(open_tensor_files(folder_.path_of(place), folder_.file_system()));
    V3Meta meta = CDNA_TRY(read_v3_meta(*files));
    if (skipped_.has(meta.name)) {
      note(place, "left out on request: " + escape(meta.name));
      return {};
    }
    CDNA_TRY(check_name(place, meta.name));
    V3Tensor tensor = CDNA_TRY(V3Tensor::open(std::move(files), std::move(meta)));
    for (const std::string& text : tensor.notes()) note(place, escape(tensor.name()) + ": " + text);
    std::string name = tensor.name();
    parts_.entries.push_back({std::move(name), place, std::move(tensor)});
    return {};
  }

  // The companion's, or the manifest's; else that of the file, whose '_' may have been anything.
  Result<std::string> name_of_array(const std::string& place, std::optional<std::vector<std::uint64_t>>& shape) {
    const std::string companion = place + ".meta.json";
    if (folder_.has(companion)) {
      const auto files = CDNA_TRY(open_tensor_files(folder_.path_of("."), folder_.file_system()));
      auto json = parse_python_json(CDNA_TRY(read_text(*files, companion, kHelixJsonBytesMax)));
      if (!json) return fail_at(companion, "", Code::malformed, json.error().message);
      const auto name = json->string_of("tensor_name");
      if (!name || name->empty()) return fail_at(companion, "", Code::malformed, "it has no string \"tensor_name\"");
      shape = json->sizes_of("shape");
      return *name;
    }
    const std::string listed = manifest_.name_of(place);
    if (!listed.empty()) return listed;
    std::string stem = place.substr(0, place.size() - kArrayEnding.size());
    if (skipped_.has(stem)) return stem;
    note(place, "its name is taken from the file, whose '_' may stand for '.' or '/': no " + companion + " is there");
    return stem;
  }

  Result<void> add_array(const std::string& place) {
    used_.push_back(place);
    std::optional<std::vector<std::uint64_t>> shape;
    const std::string name = CDNA_TRY(name_of_array(place, shape));
    if (skipped_.has(name)) {
      note(place, "left out on request: " + escape(name));
      return {};
    }
    CDNA_TRY(check_name(place, name));
    ExactArray array;
    array.source = CDNA_TRY(folder_.open_file(place));
    auto header = read_npy_header(*array.source);
    if (!header) {
      header.error().item = name;
      return std::move(header).error();
    }
    if (shape && *shape != header->shape) {
      return fail_at(
          place, name, Code::malformed,
          "shape " + shape_text(header->shape) + ", where " + place + ".meta.json has " + shape_text(*shape));
    }
    array.header = *std::move(header);
    parts_.entries.push_back({name, place, std::move(array)});
    return {};
  }

  Result<void> add_companion(const std::string& name) {
    used_.push_back(name);
    constexpr std::size_t kCut = kCompanionEnding.size() - kArrayEnding.size();
    if (!folder_.has(name.substr(0, name.size() - kCut))) note(name, "the array that it belongs to is not there");
    return {};
  }

  Result<void> note_bad_receipts() {
    std::vector<ModelAsset> assets;
    for (const AssetFile& asset : parts_.assets) assets.push_back(asset.description);
    const auto read = [&](std::size_t asset, std::span<std::byte> out) {
      return parts_.assets[asset].source->read_at(0, out);
    };
    return note_receipts(assets, read, parts_.lines);
  }

  Result<void> sort_entries() {
    auto& entries = parts_.entries;
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
    const auto twin = std::adjacent_find(entries.begin(), entries.end(),
                                         [](const Entry& a, const Entry& b) { return a.name == b.name; });
    if (twin == entries.end()) return {};
    return fail_at(twin->place, twin->name, Code::malformed,
                   "the tensor is also in " + escape((twin + 1)->place) + "; remove the one that is not wanted");
  }

  const Folder& folder_;
  SkippedNames& skipped_;
  V3Manifest manifest_;
  Parts parts_;
  std::vector<std::string> used_;
};

Result<std::unique_ptr<Model>> open_tensor(std::shared_ptr<const TensorFiles> files) {
  V3Meta meta = CDNA_TRY(read_v3_meta(*files));
  V3Tensor tensor = CDNA_TRY(V3Tensor::open(std::move(files), std::move(meta)));
  Parts parts;
  for (const std::string& text : tensor.notes()) parts.notes.push_back({tensor.name(), text});
  std::string name = tensor.name();
  parts.entries.push_back({std::move(name), "", std::move(tensor)});
  return std::unique_ptr<Model>(std::make_unique<V3Model>(std::move(parts)));
}

}  // namespace

bool is_v3_tensor(const Folder& folder) {
  return folder.has("meta.json") && (folder.has("codebook.npy") || folder.has("morpho_config.json"));
}

bool is_v3_folder(const Folder& folder) {
  return folder.has("manifest_v3.json") ||
         std::any_of(folder.names().begin(), folder.names().end(),
                     [](const std::string& name) { return name.ends_with(kTensorEnding) && !name.starts_with('.'); });
}

Result<std::unique_ptr<Model>> open_v3_folder(const std::string& path, const ModelOptions& options,
                                              FileSystem& file_system) {
  const Folder folder = CDNA_TRY(Folder::open(path, file_system));
  if (folder.has("meta.json") && !is_v3_folder(folder)) {
    CDNA_CHECK(options.skip.empty(), Code::bad_argument, "", "skip: the source is one tensor");
    return open_tensor(CDNA_TRY(open_tensor_files(path, file_system)));
  }
  if (!is_v3_folder(folder))
    return folder.fail_here(Code::not_found, "has neither meta.json nor manifest_v3.json nor folders *.cdnav3");
  SkippedNames skipped(options.skip);
  V3Manifest manifest = CDNA_TRY(read_v3_manifest(folder, skipped));
  Parts parts = CDNA_TRY(FolderReader(folder, skipped, std::move(manifest)).read());
  CDNA_TRY(skipped.check_used());
  return std::unique_ptr<Model>(std::make_unique<V3Model>(std::move(parts)));
}

Result<std::unique_ptr<Model>> open_v3_files(std::shared_ptr<const TensorFiles> files) {
  return no_throw([&] { return open_tensor(std::move(files)); });
}

}  // namespace cdna
