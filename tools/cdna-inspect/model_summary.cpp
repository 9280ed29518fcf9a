// Footer entries to rows of a table.
#include "tools/cdna-inspect/model_summary.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "cdna/policy.hpp"
#include "tools/text.hpp"

namespace cdna::tools {
namespace {

constexpr std::uint16_t kRowScaleRole = 4;  // spec/format.md, 8.1.
constexpr std::uint16_t kGroupScaleRole = 5;

bool has_plane(const Tensor& tensor, std::uint16_t role) {
  for (std::uint32_t i = 0; i < tensor.plane_count(); ++i) {
    if (tensor.plane(i).role == role) return true;
  }
  return false;
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
  const bool cb8 = tensor.encoding() == "cdna.codebook" && tensor.plane(0).bits == 8 &&
                   has_plane(tensor, kRowScaleRole) && !has_plane(tensor, kGroupScaleRole);
  if (cb8) return "cb8";
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

TensorSummary summarize(const Tensor& tensor) {
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
  row.snr_db = snr_db(tensor);
  row.max_abs = known(tensor.max_abs_error());
  if (auto result = tensor.check_supported(); !result) row.unsupported = result.error().message;
  return row;
}

bool is_wanted(const std::vector<std::string>& globs, std::string_view name) {
  return globs.empty() ||
         std::any_of(globs.begin(), globs.end(), [name](const std::string& glob) { return matches_glob(glob, name); });
}

}  // namespace

ModelSummary summarize(const Reader& reader, const std::vector<std::string>& globs) {
  ModelSummary summary;
  for (std::uint32_t i = 0; i < reader.tensor_count(); ++i) {
    const Item named = reader.tensor_item(i);
    if (!is_wanted(globs, named.name())) continue;
    const Tensor tensor = reader.resolve(named);
    if (named.kind() == ItemKind::alias) {
      summary.aliases.emplace_back(named.name(), tensor.name());
      continue;
    }
    summary.tensors.push_back(summarize(tensor));
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
