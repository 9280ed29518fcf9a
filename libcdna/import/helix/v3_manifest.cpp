// Parses the manifest and holds it against the folder.
#include "libcdna/import/helix/v3_manifest.hpp"

#include <utility>

#include "libcdna/import/file_names.hpp"
#include "libcdna/import/helix/python_json.hpp"
#include "libcdna/import/json.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr const char* kManifest = "manifest_v3.json";
constexpr std::uint64_t kManifestBytesMax = std::uint64_t{64} << 20;

Error at(const Folder& folder, const std::string& tensor, Code code, std::string message) {
  Error error = fail(code, "", std::move(message));
  error.file = folder.path_of(kManifest);
  error.item = tensor;
  return error;
}

// The folder or file of an entry. It comes from a stranger: a plain name, of something that is here.
Result<std::string> place_of(const Folder& folder, const std::string& tensor, const PythonJson& entry) {
  const std::string format = entry.string_of("format").value_or("");
  if (format != "cdna_v3" && format != "npy")
    return at(folder, tensor, Code::unsupported, "format " + escape(quote(format)) + ", not \"cdna_v3\" or \"npy\"");
  const char* const key = format == "npy" ? "file" : "dir";
  const auto place = entry.string_of(key);
  if (!place) return at(folder, tensor, Code::malformed, std::string("it has no string \"") + key + "\"");
  if (!is_file_name(*place))
    return at(folder, tensor, Code::malformed, escape(quote(*place)) + " is not a plain name, and names are no paths");
  if (!folder.has(*place)) return at(folder, tensor, Code::malformed, escape(quote(*place)) + " is not there");
  return *place;
}

}  // namespace

std::string V3Manifest::name_of(const std::string& place) const {
  const auto found = names.find(place);
  return found == names.end() || found->second.size() != 1 ? std::string() : found->second.front();
}

Result<V3Manifest> read_v3_manifest(const Folder& folder, SkippedNames& skipped) {
  V3Manifest manifest;
  if (!folder.has(kManifest)) return manifest;
  const auto source = CDNA_TRY(folder.open_file(kManifest));
  if (source->size_bytes() > kManifestBytesMax)
    return at(folder, "", Code::limit, "over " + std::to_string(kManifestBytesMax) + " bytes");
  std::string text(static_cast<std::size_t>(source->size_bytes()), '\0');
  if (!text.empty()) CDNA_TRY(source->read_at(0, std::as_writable_bytes(std::span(text))));
  auto json = parse_python_json(text);
  if (!json) {
    json.error().file = folder.path_of(kManifest);
    return std::move(json).error();
  }
  const PythonJson* const tensors = json->find("tensors");
  if (tensors == nullptr || tensors->kind != PythonJson::Kind::object)
    return at(folder, "", Code::malformed, "it has no object \"tensors\"");
  manifest.file = kManifest;
  for (std::size_t i = 0; i < tensors->keys.size(); ++i) {
    const std::string& name = tensors->keys[i];
    if (skipped.has(name)) continue;
    std::string place = CDNA_TRY(place_of(folder, name, tensors->items[i]));
    std::vector<std::string>& sharers = manifest.names[place];
    if (!sharers.empty()) {
      return at(folder, name, Code::malformed,
                "it and " + escape(quote(sharers.front())) + " share " + escape(quote(place)) +
                    ": names that differ in '.', '_' and '/' overwrote each other");
    }
    sharers.push_back(name);
    manifest.places.emplace(name, std::move(place));
  }
  return manifest;
}

}  // namespace cdna
