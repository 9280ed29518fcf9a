// Three generations of quantization_config against what is there.
#include "libcdna/import/helix/hxq_config.hpp"

#include <algorithm>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "libcdna/import/helix/python_json.hpp"
#include "libcdna/import/json.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kConfigBytesMax = std::uint64_t{16} << 20;

Result<std::optional<PythonJson>> read_config(const Model& checkpoint, std::vector<std::string>& notes) {
  const auto assets = checkpoint.assets();
  const auto found =
      std::find_if(assets.begin(), assets.end(), [](const ModelAsset& asset) { return asset.name == "config.json"; });
  if (found == assets.end() || found->size_bytes == 0 || found->size_bytes > kConfigBytesMax)
    return std::optional<PythonJson>();
  std::string text(static_cast<std::size_t>(found->size_bytes), '\0');
  const auto number = static_cast<std::size_t>(found - assets.begin());
  CDNA_TRY(checkpoint.read_asset(number, 0, std::as_writable_bytes(std::span(text))));
  auto json = parse_python_json(text);
  if (json) return std::optional(*std::move(json));
  notes.push_back("config.json: " + json.error().message);
  return std::optional<PythonJson>();
}

// "3 modules (a, ...)".
std::string modules_text(const std::vector<std::string>& names) {
  std::string text = std::to_string(names.size()) + (names.size() == 1 ? " module (" : " modules (");
  return text + escape(names.front()) + (names.size() == 1 ? ")" : ", ...)");
}

// A name without its numbers: modules that share tensors differ in the number of their layer.
std::string pattern_of(const std::string& name) {
  std::string out;
  for (const char c : name) {
    const bool is_digit = c >= '0' && c <= '9';
    if (!is_digit) out += c;
    if (is_digit && !out.ends_with('#')) out += '#';
  }
  return out;
}

bool is_hxq_method(const PythonJson& config) {
  const std::string method = config.string_of("quant_method").value_or("");
  return method == "cdna_v3" || method == "helix" || method == "hxq";
}

// What a map has for a module, else what one of the keys has for all, else `otherwise`. Views into the configuration.
class StatedSizes {
 public:
  StatedSizes(const PythonJson& config, const char* map, std::initializer_list<const char*> of_all,
              std::uint64_t otherwise)
      : of_all_(otherwise) {
    for (const char* const key : of_all) {
      const auto value = config.size_of(key);
      if (!value) continue;
      of_all_ = *value;
      break;
    }
    const PythonJson* const values = config.find(map);
    if (values == nullptr || values->kind != PythonJson::Kind::object) return;
    for (std::size_t i = 0; i < values->keys.size(); ++i)
      if (const auto value = values->items[i].as_size()) of_module_.emplace(values->keys[i], *value);
  }

  std::uint64_t of(std::string_view module) const {
    const auto found = of_module_.find(module);
    return found != of_module_.end() ? found->second : of_all_;
  }

 private:
  std::uint64_t of_all_;
  std::map<std::string_view, std::uint64_t> of_module_;
};

class Comparison {
 public:
  Comparison(const PythonJson& config, const std::vector<HxqModule>& modules, std::vector<std::string>& notes)
      : config_(config), modules_(modules), notes_(notes) {}

  void run() {
    compare_method();
    compare_lists();
    compare_sizes();
    compare_packing();
  }

 private:
  void note(const std::string& text) { notes_.push_back("config.json: " + text); }

  void compare_method() {
    if (!is_hxq_method(config_))
      note("quant_method is " + escape(quote(config_.string_of("quant_method").value_or(""))) +
           ", and the tensors are those of HXQ");
  }

  void compare_lists() {
    const PythonJson* const list = config_.find("compressed_modules");
    if (list == nullptr || list->kind != PythonJson::Kind::array) return note("it lists no compressed_modules");
    std::set<std::string> listed;
    for (const PythonJson& item : list->items) listed.insert(item.text);
    std::vector<std::string> unlisted;
    std::map<std::string, std::vector<std::string>> patterns;
    for (const HxqModule& module : modules_) {
      if (listed.erase(module.name) == 0) unlisted.push_back(module.name);
      patterns[pattern_of(module.name)].push_back(module.name);
    }
    if (!unlisted.empty())
      note("compressed_modules lacks " + modules_text(unlisted) + " of which codebook and indices are there");
    note_missing(listed, patterns);
  }

  // Layers of some models are the same module under several names, which is stored once.
  void note_missing(const std::set<std::string>& missing,
                    const std::map<std::string, std::vector<std::string>>& patterns) {
    std::vector<std::string> absent;
    for (const std::string& name : missing) {
      const auto sharer = patterns.find(pattern_of(name));
      if (sharer != patterns.end() && sharer->second.size() == 1) {
        note("the module " + escape(name) + " is not there; it may share the tensors of " +
             escape(sharer->second.front()) + ", or be lost");
      } else {
        absent.push_back(name);
      }
    }
    if (!absent.empty()) note("compressed_modules has " + modules_text(absent) + " of which nothing is there");
  }

  void compare_sizes() {
    const StatedSizes entries(config_, "module_k_map", {"codebook_size", "n_clusters"}, 0);
    const StatedSizes elements(config_, "module_vector_dim_map", {"vector_dim"}, 1);
    std::vector<std::string> sizes;
    std::vector<std::string> vectors;
    for (const HxqModule& module : modules_) {
      if (module.is_skipped) continue;
      const std::uint64_t stated = entries.of(module.name);
      if (stated != 0 && stated != module.entries) sizes.push_back(module.name);
      if (elements.of(module.name) != module.vector) vectors.push_back(module.name);
    }
    if (!sizes.empty()) note(modules_text(sizes) + " with a codebook of another size than it says");
    if (!vectors.empty()) note(modules_text(vectors) + " with codebook entries of other elements than it says");
  }

  void compare_packing() {
    const bool is_packed = std::any_of(modules_.begin(), modules_.end(), [](const HxqModule& module) {
      return !module.is_skipped && module.form == IndexForm::packed_12bit;
    });
    const std::string packing = config_.string_of("index_packing").value_or("");
    if (is_packed && packing != "12bit") note("it does not say that indices are packed in 12 bits, as they are");
    if (!is_packed && packing == "12bit") note("index_packing is 12bit, and no indices are packed");
  }

  const PythonJson& config_;
  const std::vector<HxqModule>& modules_;
  std::vector<std::string>& notes_;
};

}  // namespace

bool states_hxq(const Model& checkpoint) {
  std::vector<std::string> notes;
  const auto json = read_config(checkpoint, notes);
  if (!json || !*json) return false;
  const PythonJson* const config = (*json)->find("quantization_config");
  return config != nullptr && is_hxq_method(*config);
}

Result<void> compare_config(const Model& checkpoint, const std::vector<HxqModule>& modules, Metadata& metadata,
                            std::vector<std::string>& notes) {
  const std::optional<PythonJson> json = CDNA_TRY(read_config(checkpoint, notes));
  if (!json) return {};
  const PythonJson* const config = json->find("quantization_config");
  if (config == nullptr) {
    notes.emplace_back("config.json: it has no quantization_config, and the tensors are those of HXQ");
    return {};
  }
  const std::string text = dump_sorted(*config, JsonSpaces::compact, "");
  const bool is_json = text.find("NaN") == text.npos && text.find("Infinity") == text.npos;  // Python's, not JSON's.
  metadata["helix:quantization_config"] = is_json ? MetadataValue(JsonText{text}) : MetadataValue(text);
  Comparison(*config, modules, notes).run();
  return {};
}

}  // namespace cdna
