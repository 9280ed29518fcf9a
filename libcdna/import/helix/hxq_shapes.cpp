// Hints, then the compressor's own statement. Never a guess: sizes in config.json fit many shapes.
#include "libcdna/import/helix/hxq_shapes.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "cdna/glob.hpp"
#include "libcdna/import/folder.hpp"
#include "libcdna/import/helix/v3_tensor.hpp"
#include "libcdna/import/json.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

std::optional<std::uint64_t> parse_size(std::string_view text) {
  if (text == "*") return 0;
  std::uint64_t value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size() || value == 0) return std::nullopt;
  return value;
}

Result<ShapeHint> parse_hint(const std::string& text) {
  const Error wrong =
      fail(Code::bad_argument, "", "shapes: " + escape(quote(text)) + " is not GLOB=ROWSxCOLS, of which one may be *");
  const std::size_t equals = text.rfind('=');
  const std::size_t times = text.rfind('x');
  if (equals == text.npos || times == text.npos || times < equals || equals == 0) return wrong;
  const auto rows = parse_size(std::string_view(text).substr(equals + 1, times - equals - 1));
  const auto cols = parse_size(std::string_view(text).substr(times + 1));
  if (!rows || !cols || (*rows == 0 && *cols == 0)) return wrong;
  return ShapeHint{text.substr(0, equals), *rows, *cols};
}

// The compressor's name of a tensor's folder.
std::string folder_of(std::string name) {
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '.' || c == '/'; }, '_');
  return name + ".cdnav3";
}

class CompressorOutput {
 public:
  static Result<CompressorOutput> open(const std::string& path, FileSystem& file_system) {
    CompressorOutput output;
    if (path.empty()) return output;
    const Folder parent = CDNA_TRY(Folder::open(path, file_system));
    for (const std::string& name : parent.names()) {
      if (!name.starts_with("cdnav3") || CDNA_TRY(parent.kind_of(name)) != EntryKind::folder) continue;
      output.folders_.push_back(CDNA_TRY(Folder::open(parent.path_of(name), file_system)));
    }
    return output;
  }

  struct Found {
    std::uint64_t rows = 0;
    std::uint64_t cols = 0;
    std::string path;
  };

  // What the first that is about this tensor says. What cannot be read says nothing.
  Result<std::optional<Found>> find(const std::string& weight) const {
    for (const Folder& folder : folders_) {
      const std::string place = folder_of(weight);
      if (!folder.has(place)) continue;
      const std::string file = place + "/meta.json";
      const auto source = folder.open_file(file);
      if (!source) continue;
      if ((*source)->size_bytes() > kHelixJsonBytesMax) continue;
      std::string text(static_cast<std::size_t>((*source)->size_bytes()), '\0');
      if (!text.empty()) CDNA_TRY((*source)->read_at(0, std::as_writable_bytes(std::span(text))));
      const auto json = parse_python_json(text);
      if (!json || json->string_of("tensor_name") != weight) continue;
      const auto shape = json->sizes_of("shape");
      if (shape && shape->size() == 2) return std::optional(Found{(*shape)[0], (*shape)[1], folder.path_of(file)});
    }
    return std::optional<Found>();
  }

 private:
  std::vector<Folder> folders_;
};

Error unknown_shape(const Model& checkpoint, const HxqModule& module) {
  const ModelTensor& indices = checkpoint.tensors()[module.indices];
  const std::uint64_t elements = module.index_count(checkpoint) * module.vector;
  Error error =
      fail(Code::malformed, "",
           "12-bit indices of " + std::to_string(elements) +
               " elements, and neither bias, SVD and channel scales of the module nor a folder cdnav3* beside "
               "tell their rows and columns: give them, as in shapes \"" +
               escape(module.weight()) + "=ROWSxCOLS\"");
  error.item = indices.name;
  return error;
}

// Hints, and whether each fitted a module.
class Hints {
 public:
  explicit Hints(const std::vector<ShapeHint>& hints) : hints_(hints), used_(hints.size()) {}

  // The first that fits, or null; marks all that do.
  const ShapeHint* find(const std::string& weight) {
    const ShapeHint* first = nullptr;
    for (std::size_t i = 0; i < hints_.size(); ++i) {
      if (!matches_glob(hints_[i].glob, weight)) continue;
      used_[i] = true;
      if (first == nullptr) first = &hints_[i];
    }
    return first;
  }

  Result<void> check_used() const {
    for (std::size_t i = 0; i < hints_.size(); ++i) {
      CDNA_CHECK(used_[i], Code::bad_argument, "",
                 "shapes: " + escape(quote(hints_[i].glob)) + " fits no weight of codes");
    }
    return {};
  }

 private:
  const std::vector<ShapeHint>& hints_;
  std::vector<bool> used_;
};

// Gives a module the shape, or compares it with the one that it has.
Result<void> apply(const ShapeHint& hint, const Model& checkpoint, HxqModule& module) {
  const std::uint64_t elements = module.index_count(checkpoint) * module.vector;
  const std::uint64_t rows = hint.rows != 0 ? hint.rows : elements / hint.cols;
  const std::uint64_t cols = hint.cols != 0 ? hint.cols : elements / rows;
  return set_shape(module, checkpoint, rows, cols, "shapes " + escape(quote(hint.glob)));
}

}  // namespace

Result<std::vector<ShapeHint>> parse_shape_hints(const std::vector<std::string>& texts) {
  std::vector<ShapeHint> hints;
  for (const std::string& text : texts) hints.push_back(CDNA_TRY(parse_hint(text)));
  return hints;
}

Result<void> complete_shapes(const Model& checkpoint, std::vector<HxqModule>& modules,
                             const std::vector<ShapeHint>& hints, const std::string& folder, FileSystem& file_system,
                             std::vector<std::string>& notes) {
  Hints given(hints);
  std::optional<CompressorOutput> output;
  for (HxqModule& module : modules) {
    const std::string weight = module.weight();
    const ShapeHint* const hint = given.find(weight);
    if (module.is_skipped) continue;
    if (hint != nullptr) CDNA_TRY(apply(*hint, checkpoint, module));
    if (module.rows != 0) continue;
    if (!output) output = CDNA_TRY(CompressorOutput::open(folder, file_system));
    const auto found = CDNA_TRY(output->find(weight));
    if (!found) return unknown_shape(checkpoint, module);
    CDNA_TRY(set_shape(module, checkpoint, found->rows, found->cols, escape(found->path)));
    notes.push_back(escape(weight) + ": its shape is from " + escape(found->path) + ": 12-bit indices do not tell it");
  }
  return given.check_used();
}

}  // namespace cdna
