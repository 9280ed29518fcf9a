// Decides by kind and name.
#include "libcdna/import/asset_files.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "libcdna/format/utf8.hpp"
#include "libcdna/import/hugging_face.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

Result<AssetFile> open_asset(const Folder& folder, const std::string& name, std::string_view media_type) {
  AssetFile asset;
  asset.source = CDNA_TRY(folder.open_entry(name));
  asset.description = {name, std::string(media_type), asset.source->size_bytes()};
  return asset;
}

// Whether a container can have an item of this name (spec/format.md, N1 to N3): what cannot should not end a
// conversion whose tensors are written.
bool is_item_name(std::string_view name) {
  constexpr std::size_t kBytesMax = 1024;
  if (name.empty() || name.size() > kBytesMax) return false;
  while (!name.empty()) {
    const Utf8Char character = next_utf8(name);
    const bool is_control = character.value < 0x20 || (character.value >= 0x7F && character.value < 0xA0);
    if (!character.valid || is_control) return false;
    name.remove_prefix(character.size);
  }
  return true;
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

}  // namespace

Result<void> collect_files(const Folder& folder, const std::vector<std::string>& weights,
                           std::vector<AssetFile>& assets, std::vector<Note>& notes) {
  for (const std::string& name : folder.names()) {
    if (std::binary_search(weights.begin(), weights.end(), name)) continue;
    const EntryKind kind = CDNA_TRY(folder.kind_within(name));
    const FileUse use = use_of(name);
    if (kind == EntryKind::file && !use.media_type.empty() && !is_item_name(name)) {
      notes.push_back({name, "left out: an asset cannot have such a name"});
      continue;
    }
    if (kind == EntryKind::file && !use.media_type.empty()) {
      assets.push_back(CDNA_TRY(open_asset(folder, name, use.media_type)));
      continue;
    }
    const std::string_view reason = kind == EntryKind::file || name.starts_with('.') ? use.reason : obstacle(kind);
    notes.push_back({name, std::string(reason)});
  }
  return {};
}

std::vector<std::string> lines_of(std::vector<Note> notes) {
  std::stable_sort(notes.begin(), notes.end(), [](const Note& a, const Note& b) { return a.name < b.name; });
  std::vector<std::string> lines;
  for (const Note& note : notes) lines.push_back(escape(note.name) + ": " + escape(note.text));
  return lines;
}

}  // namespace cdna
