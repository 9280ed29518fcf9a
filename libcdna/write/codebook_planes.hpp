// Which planes the writers give to a codebook tensor, in the order of spec/format.md, 13.2 and 13.3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "libcdna/write/plane_plan.hpp"

namespace cdna {

inline constexpr std::size_t kStatisticsEntries = 3;

struct CodebookShape {
  std::uint64_t cols = 0;
  std::uint32_t bits = 0;
  std::uint32_t vector = 1;          // Elements for each code; divides cols.
  std::uint32_t rows_per_block = 0;  // Of codes.
  Codec codec = Codec::raw;          // Of codes and outliers.
  DType codebook_dtype = DType::f16;
  bool row_scales = true;
  std::uint32_t group = 0;            // 0: no group scales.
  DType group_dtype = DType::u8;      // U8: with a scale table.
  DType offset_dtype = DType::none;   // none: no group offsets.
  DType outlier_dtype = DType::none;  // none: no plane.
  PlaneRole claim = kPwl;             // Or kAffine.
  std::size_t claim_entries = 0;      // 0: no plane.
  bool statistics = true;
  std::uint64_t rank = 0;  // 0: no matrix of low rank.
  bool column_scales = false;

  std::uint64_t code_bytes() const { return (cols / vector * bits + 7) / 8; }
  std::uint64_t group_count() const { return group == 0 ? 0 : (cols + group - 1) / group; }
};

// The planes, and the number of each; 0 where there is none. Codes are plane 0.
struct CodebookPlan {
  std::vector<wire::Plane> planes;
  std::size_t codebook = 0;
  std::size_t row_scales = 0;
  std::size_t group_scales = 0;
  std::size_t scale_table = 0;
  std::size_t group_offsets = 0;
  std::size_t outliers = 0;
  std::size_t low_rank_left = 0;
  std::size_t low_rank_factors = 0;
  std::size_t low_rank_right = 0;
  std::size_t column_scales = 0;
  std::size_t claim = 0;
  std::size_t statistics = 0;
};

// rows_per_block of codes: few enough that a block of a matrix of low rank has the same rows.
std::uint32_t plan_code_rows_per_block(const CodebookShape& shape, Role role);

CodebookPlan plan_codebook_planes(const CodebookShape& shape);

}  // namespace cdna
