// Planes of codebook tensors, one after the other.
#include "libcdna/write/codebook_planes.hpp"

namespace cdna {
namespace {

wire::Plane make_side(PlaneRole role, DType dtype, std::uint64_t entries, std::uint32_t first_rows_per_block) {
  const std::uint32_t bits = bits_of(dtype);
  const std::uint32_t rows_per_block = plan_side_rows_per_block(entries * bits / 8, first_rows_per_block);
  return make_plane({role, dtype, bits, kRows, entries, rows_per_block, Codec::raw});
}

wire::Plane make_table(PlaneRole role, DType dtype, std::uint64_t entries) {
  return make_plane({role, dtype, bits_of(dtype), kWhole, entries, 1, Codec::raw});
}

}  // namespace

CodebookPlan plan_codebook_planes(const CodebookShape& shape) {
  CodebookPlan plan;
  const auto add = [&plan](const wire::Plane& plane) {
    plan.planes.push_back(plane);
    return plan.planes.size() - 1;
  };
  add(make_plane({kCodes, DType::none, shape.bits, kRows, shape.cols, shape.rows_per_block, shape.codec}));
  plan.codebook = add(make_table(kCodebook, shape.codebook_dtype, std::uint64_t{1} << shape.bits));
  if (shape.row_scales) plan.row_scales = add(make_side(kRowScale, DType::f32, 1, shape.rows_per_block));
  if (shape.group != 0) {
    plan.group_scales = add(make_side(kGroupScale, DType::u8, shape.group_count(), shape.rows_per_block));
    plan.planes.back().mutate_group(static_cast<std::uint16_t>(shape.group));
    plan.scale_table = add(make_table(kScaleTable, DType::f32, 256));
  }
  if (shape.outlier_dtype != DType::none)
    plan.outliers = add(make_plane({kOutliers, shape.outlier_dtype, 8, kPerBlock, 0, 0, shape.codec}));
  if (shape.claim_entries != 0) plan.claim = add(make_table(shape.claim, DType::f16, shape.claim_entries));
  if (shape.statistics) plan.statistics = add(make_table(kStatistics, DType::f64, kStatisticsEntries));
  return plan;
}

}  // namespace cdna
