// The table of presets, and their text form.
#include "cdna/preset.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <optional>
#include <vector>

#include "libcdna/encode/codebook_options.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

struct NamedPreset {
  std::string_view name;
  Preset preset;
};

constexpr Preset codebook(std::uint32_t entries, std::uint32_t group, double outlier_fraction) {
  return {Preset::Method::codebook, {entries, group, outlier_fraction, CodebookClass::free, Nonfinite::refuse}};
}

constexpr std::array<NamedPreset, 7> kPresets{{
    {"exact", {Preset::Method::exact, {}}},
    {"exact-z", {Preset::Method::exact_z, {}}},
    {"cb8", codebook(256, 0, 0.001)},
    {"cb8g64", codebook(256, 64, 0)},
    {"cb6g64", codebook(64, 64, 0)},
    {"cb5g32", codebook(32, 32, 0)},
    {"cb4g32", codebook(16, 32, 0)},
}};

constexpr std::array<std::string_view, kPresets.size()> kNames = [] {
  std::array<std::string_view, kPresets.size()> names;
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = kPresets[i].name;
  return names;
}();

constexpr std::array<std::string_view, 3> kClassNames{"free", "pwl16", "affine"};

std::string all_names() {
  std::string names;
  for (const std::string_view name : kNames) names += (names.empty() ? "" : ", ") + std::string(name);
  return names;
}

// The next part of `text` up to `separator`, which is taken away with it.
std::string_view take_until(std::string_view& text, char separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

template <class T>
std::optional<T> number_of(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Error wrong(std::string_view part, std::string_view right) {
  return fail(Code::bad_argument, "", "'" + std::string(part) + "': " + std::string(right));
}

// `earlier`: the keys of the parameters before this one.
Result<void> set_parameter(CodebookOptions& options, std::string_view part, std::vector<std::string_view>& earlier) {
  std::string_view value = part;
  const std::string_view key = take_until(value, '=');
  if (std::find(earlier.begin(), earlier.end(), key) != earlier.end())
    return wrong(part, std::string(key) + " is given twice");
  earlier.push_back(key);
  if (key == "k") {
    const auto entries = number_of<std::uint32_t>(value);
    if (!entries || *entries < 2 || *entries > 256) return wrong(part, "k is 2..256");
    options.entries = *entries;
  } else if (key == "group") {
    const auto group = number_of<std::uint32_t>(value);
    if (!group || (*group != 0 && *group != 32 && *group != 64 && *group != 128))
      return wrong(part, "group is 0 (none), 32, 64 or 128");
    options.group = *group;
  } else if (key == "outliers") {
    const auto fraction = number_of<double>(value);
    if (!fraction || !(*fraction >= 0 && *fraction <= 1)) return wrong(part, "outliers is a fraction, 0..1");
    options.outlier_fraction = *fraction;
  } else if (key == "class") {
    const auto* const found = std::find(kClassNames.begin(), kClassNames.end(), value);
    if (found == kClassNames.end()) return wrong(part, "class is free, pwl16 or affine");
    options.codebook_class = static_cast<CodebookClass>(found - kClassNames.begin());
  } else {
    return wrong(part, "parameters are k, group, outliers and class");
  }
  return {};
}

std::string text_of(double value) {
  std::array<char, 32> buffer{};
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), error == std::errc{} ? end : buffer.data()};
}

// The parameters by which `options` differs from `base`, each after a comma.
std::string differences(const CodebookOptions& options, const CodebookOptions& base) {
  std::string text;
  if (options.entries != base.entries) text += ",k=" + std::to_string(options.entries);
  if (options.group != base.group) text += ",group=" + std::to_string(options.group);
  if (options.outlier_fraction != base.outlier_fraction) text += ",outliers=" + text_of(options.outlier_fraction);
  if (options.codebook_class != base.codebook_class) text += ",class=" + std::string(name_of(options.codebook_class));
  return text;
}

}  // namespace

std::string_view name_of(CodebookClass codebook_class) { return kClassNames[static_cast<std::size_t>(codebook_class)]; }

std::span<const std::string_view> preset_names() { return kNames; }

double Preset::nominal_bits() const {
  constexpr double kScaleBits = 8;
  if (method == Method::source) return 0;
  if (method == Method::exact) return 16;
  if (method == Method::exact_z) return 0.68 * 16;  // Of bf16 weights; reference/formats, B.1: 0.68 to 0.70.
  const double scale = codebook.group == 0 ? 0 : kScaleBits / codebook.group;
  return code_bits(codebook) + scale;
}

Result<void> check_options(const CodebookOptions& options) {
  const std::uint32_t k = options.entries;
  const std::uint32_t group = options.group;
  CDNA_CHECK(k >= 2 && k <= 256, Code::bad_argument, "", "a codebook has 2..256 entries");
  CDNA_CHECK(group == 0 || group == 32 || group == 64 || group == 128, Code::bad_argument, "",
             "groups have 32, 64 or 128 values");
  CDNA_CHECK(options.outlier_fraction >= 0 && options.outlier_fraction <= 1, Code::bad_argument, "",
             "the outlier fraction is not in 0..1");
  const bool power = std::has_single_bit(k);
  CDNA_CHECK(options.codebook_class != CodebookClass::pwl16 || (power && k >= 32), Code::bad_argument, "",
             "class pwl16 needs k = 32, 64, 128 or 256");
  CDNA_CHECK(options.codebook_class != CodebookClass::affine || power, Code::bad_argument, "",
             "class affine needs k to be a power of two");
  return {};
}

Result<Preset> parse_preset(std::string_view text) {
  return no_throw([&]() -> Result<Preset> {
    const std::string_view whole = text;
    const std::string_view name = take_until(text, ',');
    const auto* const named =
        std::find_if(kPresets.begin(), kPresets.end(), [name](const NamedPreset& each) { return each.name == name; });
    if (named == kPresets.end()) return wrong(name, "presets are " + all_names());
    Preset preset = named->preset;
    if (preset.method != Preset::Method::codebook && whole != name) return wrong(name, "takes no parameters");
    if (whole.ends_with(',') || whole.find(",,") != std::string_view::npos)
      return wrong(whole, "a parameter is missing after a comma");
    std::vector<std::string_view> keys;
    while (!text.empty()) CDNA_TRY(set_parameter(preset.codebook, take_until(text, ','), keys));
    CDNA_TRY(check_options(preset.codebook));
    return preset;
  });
}

std::string name_of(const Preset& preset) {
  if (preset.method == Preset::Method::source) return "source";
  // Of the presets with as many bits per code, or else of all, the one that needs the fewest words.
  std::string best;
  bool best_has_bits = false;
  for (const NamedPreset& each : kPresets) {
    if (each.preset.method != preset.method) continue;
    std::string text(each.name);
    if (preset.method == Preset::Method::codebook) text += differences(preset.codebook, each.preset.codebook);
    const bool has_bits = code_bits(preset.codebook) == code_bits(each.preset.codebook);
    const bool better = has_bits == best_has_bits ? text.size() < best.size() : has_bits;
    if (!best.empty() && !better) continue;
    best = std::move(text);
    best_has_bits = has_bits;
  }
  return best;
}

}  // namespace cdna
