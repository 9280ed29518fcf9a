// Differences to what the codes say are made here, where the codes are at hand as the file has them.
#include "libcdna_cuda/outliers.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <tuple>

#include "libcdna/file.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/format/wire.hpp"
#include "libcdna/try.hpp"

namespace cdna::cuda {
namespace {

float widened(DType dtype, const std::byte* value) {
  float out = 0;
  convert_value(dtype, value, DType::f32, reinterpret_cast<std::byte*>(&out));
  return out;
}

bool is_stored_finite(DType dtype, const std::byte* value, float as_f32) {
  if (dtype != DType::f64) return std::isfinite(as_f32);
  double stored = 0;
  std::memcpy(&stored, value, sizeof stored);
  return std::isfinite(stored);
}

float scale_at(const TensorPlan& plan, const Block& block, float row_scale, std::uint64_t row, std::uint64_t entry) {
  const std::uint64_t scale_bytes = block.group_scales.size() / block.row_count;
  const std::uint64_t group = plan.decoder.group == 0 ? 0 : entry / plan.decoder.group;
  return plan.decoder.scale(row_scale, block.group_scales.subspan(row * scale_bytes, scale_bytes), group);
}

// The codebook's entry of the code at row `row` (of the block) and entry `entry`.
float entry_at(const TensorPlan& plan, const Block& block, std::uint64_t row, std::uint64_t entry) {
  const std::uint64_t row_bytes = block.data.size() / block.row_count;
  return plan.decoder.entry(block.data.subspan(row * row_bytes, row_bytes), entry);
}

}  // namespace

Error not_finite(const TensorPlan& plan, std::uint16_t role, std::uint64_t block, const char* what) {
  const ItemView view = file_of(plan.tensor).footer().item(plan.tensor.number());
  const wire::Plane* const plane = find_plane(view, static_cast<PlaneRole>(role));
  Error error = fail(Code::malformed, "D1", what, plane->offset());
  error.plane = static_cast<std::int32_t>(plane - view.planes.data());
  error.block = static_cast<std::int64_t>(block);
  return file_of(plan.tensor).placed(std::move(error), plan.tensor.number());
}

Result<void> Outliers::add(const TensorPlan& plan, const Block& block) {
  if (block.outlier_count == 0) return {};
  const std::uint64_t value_bytes = bits_of(plan.outlier_dtype) / 8;
  std::vector<Outlier> found;
  found.reserve(block.outlier_count);
  bool fit = true;
  for (std::uint64_t i = 0; i < block.outlier_count; ++i) {
    std::uint32_t position = 0;
    std::memcpy(&position, block.outlier_positions.data() + i * sizeof position, sizeof position);
    const std::uint64_t row_in_block = position / block.entry_count;
    const std::uint64_t entry = position % block.entry_count;
    const std::uint64_t row = block.row_begin + row_in_block;
    // The first: also if somebody rewrites the file meanwhile, nothing is read behind the block.
    if (row_in_block >= block.row_count || row < plan.row_begin || row >= plan.row_end) continue;
    const std::byte* const stored = block.outlier_values.data() + i * value_bytes;
    const float value = widened(plan.outlier_dtype, stored);
    if (!is_stored_finite(plan.outlier_dtype, stored, value))
      return not_finite(plan, kOutliers, block.number, "an outlier is not finite");
    const float row_scale = block.row_scales.empty() ? 1.0F : block.row_scales[row_in_block];
    const float scale = scale_at(plan, block, row_scale, row_in_block, entry);
    const float delta = outlier_difference(value, entry_at(plan, block, row_in_block, entry), scale);
    // Scales that are not finite are told of where they are sent.
    const bool scales_are_finite =
        std::isfinite(row_scale) && std::isfinite(scale_at(plan, block, 1, row_in_block, entry));
    if (!std::isfinite(value) || (!std::isfinite(delta) && scales_are_finite))
      return file_of(plan.tensor)
          .placed(fail(Code::unsupported, "", "an outlier, or its distance from its code, is beyond the range of f32"),
                  plan.tensor.number());
    const std::uint64_t column = block.entry_begin + entry;
    const std::uint64_t local = row - plan.row_begin;
    const std::uint64_t tile =
        local / cdna_cuda::kTileRows * cdna_cuda::tiles_of_columns(plan.cols) + column / cdna_cuda::kTileColumns;
    fit = fit && std::abs(value / row_scale) < kF16Max;
    found.push_back({tile, static_cast<std::uint32_t>(column << 4 | local % cdna_cuda::kTileRows), value, delta});
  }
  const std::lock_guard lock(mutex_);
  outliers_.insert(outliers_.end(), found.begin(), found.end());
  fit_f16_ = fit_f16_ && fit;
  return {};
}

OutlierArrays Outliers::take_arrays(const TensorPlan& plan) {
  std::vector<Outlier> all;
  all.swap(outliers_);
  std::sort(all.begin(), all.end(),
            [](const Outlier& a, const Outlier& b) { return std::tie(a.tile, a.place) < std::tie(b.tile, b.place); });
  OutlierArrays arrays;
  arrays.begin.assign(plan.tiles() + 1, 0);
  for (const Outlier& outlier : all) {
    ++arrays.begin[outlier.tile + 1];
    arrays.places.push_back(outlier.place);
    arrays.values.push_back(outlier.value);
    arrays.deltas.push_back(outlier.delta);
  }
  for (std::size_t i = 1; i < arrays.begin.size(); ++i) arrays.begin[i] += arrays.begin[i - 1];
  return arrays;
}

}  // namespace cdna::cuda
