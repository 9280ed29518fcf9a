// Planes of codebook tensors, one after the other.
#include "libcdna/write/codebook_planes.hpp"

#include <algorithm>

namespace cdna {
namespace {

wire::Plane make_side(PlaneRole role, DType dtype, std::uint64_t entries, std::uint32_t first_rows_per_block) {
  const std::uint32_t bits = bits_of(dtype);
  const std::uint32_t rows_per_block = plan_side_rows_per_block(entries * bits / 8, first_rows_per_block);
  return make_plane({role, dtype, bits, kRows, entries, rows_per_block, Codec::raw});
}

wire::Plane make_group_side(PlaneRole role, DType dtype, const CodebookShape& shape) {
  wire::Plane plane = make_side(role, dtype, shape.group_count(), shape.rows_per_block);
  plane.mutate_group(static_cast<std::uint16_t>(shape.group));
  return plane;
}

// One block, or where that would be too large, cut.
wire::Plane make_table(PlaneRole role, DType dtype, std::uint64_t entries) {
  const std::uint32_t rows_per_block = entries * bits_of(dtype) / 8 <= kBlockBytesMax ? 1 : 0;
  return make_plane({role, dtype, bits_of(dtype), kWhole, entries, rows_per_block, Codec::raw});
}

}  // namespace

std::uint32_t plan_code_rows_per_block(const CodebookShape& shape, Role role) {
  constexpr std::uint64_t kLeftTarget = std::uint64_t{1} << 20;
  const std::uint32_t rows = plan_rows_per_block(shape.code_bytes(), role);
  if (shape.rank == 0) return rows;
  return std::min(rows, static_cast<std::uint32_t>(kLeftTarget / (shape.rank * sizeof(float))));
}

CodebookPlan plan_codebook_planes(const CodebookShape& shape) {
  CodebookPlan plan;
  const auto add = [&plan](const wire::Plane& plane) {
    plan.planes.push_back(plane);
    return plan.planes.size() - 1;
  };
  add(make_plane(
      {kCodes, DType::none, shape.bits, kRows, shape.cols / shape.vector, shape.rows_per_block, shape.codec}));
  plan.planes.back().mutate_vector(static_cast<std::uint8_t>(shape.vector));
  plan.codebook = add(make_table(kCodebook, shape.codebook_dtype, std::uint64_t{shape.vector} << shape.bits));
  if (shape.row_scales) plan.row_scales = add(make_side(kRowScale, DType::f32, 1, shape.rows_per_block));
  if (shape.group != 0) {
    plan.group_scales = add(make_group_side(kGroupScale, shape.group_dtype, shape));
    if (shape.group_dtype == DType::u8) plan.scale_table = add(make_table(kScaleTable, DType::f32, 256));
  }
  if (shape.outlier_dtype != DType::none)
    plan.outliers = add(make_plane({kOutliers, shape.outlier_dtype, 8, kPerBlock, 0, 0, shape.codec}));
  if (shape.offset_dtype != DType::none)
    plan.group_offsets = add(make_group_side(kGroupOffset, shape.offset_dtype, shape));
  if (shape.rank != 0) {
    plan.low_rank_left = add(make_side(kLowRankLeft, DType::f32, shape.rank, shape.rows_per_block));
    plan.low_rank_factors = add(make_table(kLowRankFactors, DType::f32, shape.rank));
    plan.low_rank_right = add(make_table(kLowRankRight, DType::f32, shape.rank * shape.cols));
  }
  if (shape.column_scales) plan.column_scales = add(make_table(kColumnScale, DType::f32, shape.cols));
  if (shape.claim_entries != 0) plan.claim = add(make_table(shape.claim, DType::f16, shape.claim_entries));
  if (shape.statistics) plan.statistics = add(make_table(kStatistics, DType::f64, kStatisticsEntries));
  return plan;
}

}  // namespace cdna
