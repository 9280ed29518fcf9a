// Tensors are read where they lie; blocks become planes when asked for; the key-values go along byte for byte.
#include "libcdna/import/gguf/gguf.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <utility>

#include "libcdna/import/decoded_values.hpp"
#include "libcdna/import/gguf/block_planes.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr const char* kAssetName = "gguf-metadata.bin";
constexpr const char* kAssetType = "application/vnd.gguf.metadata";
constexpr std::uint64_t kAssetHeadBytes = 12;  // Version (u32) and number of keys (u64).
constexpr std::string_view kPrefix = "gguf:";

ModelTensor description_of(const GgufTensor& tensor) {
  ModelTensor out;
  out.name = tensor.name;
  out.shape = tensor.shape;
  out.source_type = tensor.type->name;
  out.dtype = tensor.type->dtype;
  if (tensor.type->codes != nullptr) {
    out.dtype = DType::f32;
    // A vector's matrix view has one column, which no codes fit. (llama.cpp never quantises one.)
    out.is_encoded = tensor.elements != 0 && tensor.shape.size() >= 2 && fits_codes(out.dtype, out.shape);
  }
  out.size_bytes = tensor.elements * (bits_of(out.dtype) / 8);
  return out;
}

// Bytes of a part that are kept as an asset.
struct KeyValueAsset {
  std::size_t part = 0;
  std::array<std::byte, kAssetHeadBytes> head{};
};

class GgufModel final : public Model {
 public:
  explicit GgufModel(std::vector<GgufPart> parts) : parts_(std::move(parts)) {}

  Result<void> prepare() {
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      for (std::size_t j = 0; j < parts_[i].header.tensors.size(); ++j) places_.push_back({i, j});
    }
    std::sort(places_.begin(), places_.end(),
              [this](const Place& a, const Place& b) { return at(a).name < at(b).name; });
    for (std::size_t i = 0; i < places_.size(); ++i) {
      CDNA_TRY(check_name(i));
      tensors_.push_back(description_of(at(places_[i])));
    }
    for (std::size_t i = 0; i < parts_.size(); ++i) add_key_values(i);
    return {};
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
      if (at(places_[tensor]).type->codes != nullptr) return read_values(tensor, offset, out);
      const Source& source = *parts_[places_[tensor].part].source;
      return named(source.read_at(at(places_[tensor]).begin + offset, out), tensor);
    });
  }

  Result<HeldPlanes> read_planes(std::size_t tensor) const override {
    assert(tensor < tensors_.size());
    return no_throw([&]() -> Result<HeldPlanes> {
      if (!tensors_[tensor].is_encoded) return Model::read_planes(tensor);
      return load(tensor);
    });
  }

  Result<void> read_asset(std::size_t asset, std::uint64_t offset, std::span<std::byte> out) const override {
    assert(asset < assets_.size() && offset <= assets_[asset].size_bytes);
    assert(out.size() <= assets_[asset].size_bytes - offset);
    const KeyValueAsset& kept = key_values_[asset];
    if (offset < kAssetHeadBytes && !out.empty()) {
      const auto size = std::min<std::size_t>(out.size(), static_cast<std::size_t>(kAssetHeadBytes - offset));
      std::memcpy(out.data(), kept.head.data() + offset, size);
      offset += size;
      out = out.subspan(size);
    }
    if (out.empty()) return {};
    return parts_[kept.part].source->read_at(kGgufHeadBytes + (offset - kAssetHeadBytes), out);
  }

 private:
  struct Place {
    std::size_t part = 0;
    std::size_t tensor = 0;
  };

  const GgufTensor& at(const Place& place) const { return parts_[place.part].header.tensors[place.tensor]; }

  // Names of one part are unique already.
  Result<void> check_name(std::size_t i) const {
    if (i == 0 || at(places_[i]).name != at(places_[i - 1]).name) return {};
    Error error =
        fail(Code::malformed, "",
             "both " + parts_[places_[i - 1].part].name + " and " + parts_[places_[i].part].name + " have this tensor");
    error.item = at(places_[i]).name;
    return error;
  }

  // An error with its tensor, and the file that has it.
  template <class T>
  Result<T> named(Result<T> result, std::size_t tensor) const {
    if (result) return result;
    Error& error = result.error();
    error.item = tensors_[tensor].name;
    if (error.file.empty()) error.file = parts_[places_[tensor].part].source->name();
    return result;
  }

  Result<HeldPlanes> load(std::size_t tensor) const {
    const Source& source = *parts_[places_[tensor].part].source;
    return named(read_block_planes(source, at(places_[tensor])), tensor);
  }

  // What ggml calls a row serves as one: blocks never cross from one into the next.
  Result<void> read_values(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) const {
    const HeldPlanes held = CDNA_TRY(last_.get(tensor, [this](std::size_t i) { return load(i); }));
    read_decoded(held.planes, DType::f32, tensors_[tensor].shape.back(), offset, out);
    return {};
  }

  // Parts after the first mostly have nothing but the keys that say which they are.
  void add_key_values(std::size_t i) {
    const GgufHeader& header = parts_[i].header;
    bool has_others = i == 0;
    for (const GgufKeyValue& entry : header.key_values) {
      has_others = has_others || !entry.key.starts_with("split.");
      if (!entry.value || entry.key.starts_with("split.")) continue;
      const auto [place, is_new] = metadata_.try_emplace(std::string(kPrefix) + entry.key, *entry.value);
      if (!is_new && place->second != *entry.value)
        metadata_["gguf@" + parts_[i].name + ":" + entry.key] = *entry.value;
    }
    if (has_others) add_asset(i);
  }

  void add_asset(std::size_t i) {
    const GgufHeader& header = parts_[i].header;
    KeyValueAsset asset;
    asset.part = i;
    const std::uint64_t count = header.key_values.size();
    std::memcpy(asset.head.data(), &header.version, 4);
    std::memcpy(asset.head.data() + 4, &count, 8);
    key_values_.push_back(asset);
    std::string number = std::to_string(i + 1);
    number.insert(0, 5 - std::min<std::size_t>(5, number.size()), '0');
    // '-' comes before '.': the first part's sorts last, so it goes there.
    const std::string name = i == 0 ? kAssetName : "gguf-metadata-" + number + ".bin";
    assets_.push_back({name, kAssetType, kAssetHeadBytes + header.key_values_end - kGgufHeadBytes});
    if (i == 0) return;
    std::rotate(assets_.end() - 2, assets_.end() - 1, assets_.end());
    std::rotate(key_values_.end() - 2, key_values_.end() - 1, key_values_.end());
  }

  std::vector<GgufPart> parts_;
  std::vector<Place> places_;
  std::vector<ModelTensor> tensors_;
  Metadata metadata_;
  std::vector<ModelAsset> assets_;
  std::vector<KeyValueAsset> key_values_;  // Of each asset.
  std::vector<std::string> notes_;
  LastPlanes last_;
};

std::string file_name_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

// Adds the file.
Error finish_error(Error error, std::string_view file) {
  if (error.file.empty()) error.file = file;
  return error;
}

Result<GgufPart> read_part(std::unique_ptr<Source> source, GgufDialect dialect) {
  GgufPart part;
  part.name = file_name_of(source->name());
  auto header = read_gguf_header(*source, dialect);
  if (!header) return finish_error(std::move(header).error(), source->name());
  part.header = *std::move(header);
  part.source = std::move(source);
  return part;
}

std::vector<GgufPart> only(GgufPart part) {
  std::vector<GgufPart> parts;
  parts.push_back(std::move(part));
  return parts;
}

}  // namespace

Result<GgufPart> open_gguf_part(const std::string& path, GgufDialect dialect, FileSystem& file_system) {
  // pread: read() copies in any case, and a source that is cut off meanwhile is then an error instead of a signal.
  return read_part(CDNA_TRY(open_source(path, Io::pread, file_system)), dialect);
}

Result<std::unique_ptr<Model>> make_gguf_model(std::vector<GgufPart> parts) {
  const std::string file(parts.front().source->name());
  auto model = std::make_unique<GgufModel>(std::move(parts));
  auto prepared = model->prepare();
  if (!prepared) return finish_error(std::move(prepared).error(), file);
  return std::unique_ptr<Model>(std::move(model));
}

Result<std::unique_ptr<Model>> open_gguf_file(const std::string& path, GgufDialect dialect, FileSystem& file_system) {
  GgufPart part = CDNA_TRY(open_gguf_part(path, dialect, file_system));
  const auto count = gguf_split_count(part.header);
  if (!count) return finish_error(count.error(), path);
  if (*count == 1) return make_gguf_model(only(std::move(part)));
  return make_gguf_model(CDNA_TRY(open_gguf_parts(path, std::move(part), dialect, file_system)));
}

Result<std::unique_ptr<Model>> open_gguf(std::unique_ptr<Source> source, GgufDialect dialect) {
  assert(source != nullptr);
  return no_throw([&]() -> Result<std::unique_ptr<Model>> {
    GgufPart part = CDNA_TRY(read_part(std::move(source), dialect));
    const auto count = gguf_split_count(part.header);
    if (!count) return finish_error(count.error(), part.source->name());
    if (*count == 1) return make_gguf_model(only(std::move(part)));
    return finish_error(
        fail(Code::unsupported, "", "one part of a split model; the others are found by the file's name"),
        part.source->name());
  });
}

}  // namespace cdna
