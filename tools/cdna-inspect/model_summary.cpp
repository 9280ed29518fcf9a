// Footer entries to rows of a table.
#include "tools/cdna-inspect/model_summary.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "cdna/convert.hpp"
#include "cdna/policy.hpp"
#include "cdna/preset.hpp"
#include "cdna/statistics.hpp"
#include "tools/text.hpp"

namespace cdna::tools {
namespace {

// spec/format.md, 8.1.
constexpr std::uint16_t kRowScaleRole = 4;
constexpr std::uint16_t kGroupScaleRole = 5;
constexpr std::uint16_t kGroupOffsetRole = 8;
constexpr std::uint16_t kLowRankLeftRole = 14;
constexpr std::uint16_t kColumnScaleRole = 17;
constexpr std::uint16_t kPwlRole = 0x8012;
constexpr std::uint16_t kAffineRole = 0x8013;

std::optional<PlaneInfo> find_plane(const Tensor& tensor, std::uint16_t role) {
  for (std::uint32_t i = 0; i < tensor.plane_count(); ++i) {
    if (tensor.plane(i).role == role) return tensor.plane(i);
  }
  return std::nullopt;
}

// The preset with codes of so many bits in such groups, as `cdna convert` names it; outliers are counted elsewhere.
std::optional<std::string_view> preset_name(std::uint32_t bits, std::uint32_t group) {
  for (const std::string_view name : preset_names()) {
    const auto preset = parse_preset(name);
    if (!preset || preset->method != Preset::Method::codebook) continue;
    const CodebookOptions& options = preset->codebook;
    if (static_cast<std::uint32_t>(std::bit_width(options.entries - 1)) == bits && options.group == group) return name;
  }
  return std::nullopt;
}

// What no preset has.
std::string extensions_name(const Tensor& tensor) {
  std::string name;
  const std::uint32_t vector = tensor.plane(0).vector;
  if (vector != 1) name += " vectors of " + std::to_string(vector);
  if (find_plane(tensor, kGroupOffsetRole)) name += " offsets";
  if (const auto left = find_plane(tensor, kLowRankLeftRole)) name += " rank " + std::to_string(left->row_entries);
  if (find_plane(tensor, kColumnScaleRole)) name += " column scales";
  return name;
}

std::string codebook_name(const Tensor& tensor) {
  const std::uint32_t bits = tensor.plane(0).bits;
  const auto group_scale = find_plane(tensor, kGroupScaleRole);
  const std::uint32_t group = group_scale ? group_scale->group : 0;
  const std::string extensions = extensions_name(tensor);
  const bool scaled_as_presets_are =
      find_plane(tensor, kRowScaleRole) && extensions.empty() && (!group_scale || group_scale->dtype == DType::u8);
  const auto preset = scaled_as_presets_are ? preset_name(bits, group) : std::nullopt;
  const char* const shape = find_plane(tensor, kAffineRole) ? "affine"
                            : find_plane(tensor, kPwlRole)  ? "pwl16"
                                                            : nullptr;
  if (preset) return std::string(*preset) + (shape == nullptr ? "" : std::string(",class=") + shape);
  std::string name = "codebook " + std::to_string(bits) + "-bit";
  if (group != 0) name += " g" + std::to_string(group);
  name += extensions;
  return shape == nullptr ? name : name + " " + shape;
}

// Filters stand in the index, which is read only where the footer leaves the question open. Without it: not known.
std::optional<std::string> exact_preset_of(const Tensor& tensor) {
  const bool zstd = (tensor.plane(0).codecs >> static_cast<unsigned>(Codec::zstd) & 1U) != 0;
  if (!zstd) return "exact";
  const auto filters = tensor.filters(0);
  if (!filters) return std::nullopt;
  return (*filters >> static_cast<unsigned>(Filter::byte_planes) & 1U) != 0 ? "exact-z" : "exact";
}

std::optional<std::string> preset_of(const Tensor& tensor) {
  if (tensor.encoding() == "cdna.exact") return exact_preset_of(tensor);
  if (tensor.encoding() == "cdna.codebook") return codebook_name(tensor);
  return std::nullopt;
}

// Of the first plane: codes or elements, which are nearly all bytes.
std::string codec_name(const Tensor& tensor) {
  const std::uint8_t codecs = tensor.plane(0).codecs;
  if (codecs == 0) return "raw";
  if (!std::has_single_bit(codecs)) return "mixed";
  return std::string(name_of(static_cast<Codec>(std::countr_zero(codecs))));
}

std::optional<double> known(double value) { return std::isfinite(value) ? std::optional(value) : std::nullopt; }

void add_statistics(const Tensor& tensor, TensorSummary& row) {
  const auto statistics = tensor.statistics();
  if (!statistics) {
    row.statistics_fault = statistics.error().describe();
    return;
  }
  row.outliers = statistics->outlier_count;
  row.excess_kurtosis = known(statistics->excess_kurtosis);
  row.code_entropy_bits = known(statistics->code_entropy_bits);
}

TensorSummary summarize(const Tensor& tensor, Detail detail) {
  TensorSummary row;
  const PlaneInfo first = tensor.plane(0);
  row.name = tensor.name();
  row.dtype = format_dtype(tensor.dtype());
  row.shape.assign(tensor.shape().begin(), tensor.shape().end());
  row.role = name_of(tensor.role());
  row.encoding = tensor.encoding();
  row.preset = preset_of(tensor);
  row.codec = codec_name(tensor);
  row.stored_bytes = tensor.stored_bytes();
  row.source_bytes = tensor.source_bytes();
  const auto elements = static_cast<double>(tensor.element_count());
  row.bits_per_weight = elements == 0 ? 0 : static_cast<double>(row.stored_bytes) * 8 / elements;
  row.rows_per_block = first.rows_per_block;
  row.blocks = first.block_count;
  row.exact = row.encoding == "cdna.exact";
  if (auto result = tensor.check_supported(); !result) row.unsupported = result.error().message;
  if (row.exact) return row;
  TensorStatistics sums;
  sums.sum_squares = tensor.sum_squares();
  sums.sum_squared_error = tensor.sum_squared_error();
  row.snr_db = known(sums.snr_db());
  row.relative_error = known(sums.relative_error());
  row.max_abs = known(tensor.max_abs_error());
  if (detail == Detail::statistics && !row.unsupported) add_statistics(tensor, row);
  return row;
}

bool is_wanted(const std::vector<std::string>& globs, std::string_view name) {
  return globs.empty() ||
         std::any_of(globs.begin(), globs.end(), [name](const std::string& glob) { return matches_glob(glob, name); });
}

}  // namespace

const TensorSummary* ModelSummary::worst() const {
  const TensorSummary* worst = nullptr;
  for (const TensorSummary& tensor : tensors) {
    if (tensor.snr_db && (worst == nullptr || *tensor.snr_db < *worst->snr_db)) worst = &tensor;
  }
  return worst;
}

ModelSummary summarize(const Reader& reader, const std::vector<std::string>& globs, Detail detail) {
  ModelSummary summary;
  for (std::uint32_t i = 0; i < reader.tensor_count(); ++i) {
    const Item named = reader.tensor_item(i);
    if (!is_wanted(globs, named.name())) continue;
    const Tensor tensor = reader.resolve(named);
    if (named.kind() == ItemKind::alias) {
      summary.aliases.emplace_back(named.name(), tensor.name());
      continue;
    }
    summary.tensors.push_back(summarize(tensor, detail));
    summary.source_bytes += tensor.source_bytes();
    summary.stored_bytes += tensor.stored_bytes();
    summary.elements += static_cast<double>(tensor.element_count());
  }
  for (std::uint32_t i = 0; i < reader.item_count(); ++i) {
    const Item item = reader.item(i);
    if (item.kind() == ItemKind::asset) summary.assets.push_back(item);
    if (static_cast<std::uint16_t>(item.kind()) > 3) ++summary.ignored_items;
  }
  return summary;
}

}  // namespace cdna::tools
