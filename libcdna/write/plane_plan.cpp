// Block sizes and matrix views that the writer chooses.
#include "libcdna/write/plane_plan.hpp"

#include <algorithm>
#include <numeric>

namespace cdna {
namespace {

constexpr std::uint64_t kBlockTarget = std::uint64_t{1} << 20;
constexpr std::uint64_t kEmbeddingBlockTarget = std::uint64_t{256}
                                                << 10;  // One row read in strict mode hashes a whole block.
constexpr std::uint64_t kPageBytes = 4096;              // Whole pages per block, where rows allow: direct I/O.
constexpr std::uint64_t kWideRow = 64;

}  // namespace

std::uint32_t plan_rows_per_block(std::uint64_t row_bytes, Role role) {
  if (row_bytes > kBlockBytesMax) return 0;
  if (row_bytes == 0) return 1;
  const std::uint64_t target = role == Role::embedding ? kEmbeddingBlockTarget : kBlockTarget;
  const std::uint64_t page_rows = kPageBytes / std::gcd(kPageBytes, row_bytes);
  const std::uint64_t multiple = page_rows * row_bytes <= target ? page_rows : 1;
  return static_cast<std::uint32_t>(std::max<std::uint64_t>(1, target / row_bytes / multiple * multiple));
}

std::uint32_t plan_side_rows_per_block(std::uint64_t row_bytes, std::uint32_t first_rows_per_block) {
  const std::uint64_t multiple = std::max<std::uint64_t>(1, first_rows_per_block);
  return static_cast<std::uint32_t>(std::max(multiple, kBlockTarget / row_bytes / multiple * multiple));
}

wire::Plane make_plane(const PlaneShape& shape) {
  wire::Plane plane;
  plane.mutate_role(shape.role);
  plane.mutate_dtype(static_cast<std::uint8_t>(shape.dtype));
  plane.mutate_bits(static_cast<std::uint8_t>(shape.bits));
  plane.mutate_scope(shape.scope);
  plane.mutate_row_entries(shape.row_entries);
  plane.mutate_rows_per_block(shape.rows_per_block);
  plane.mutate_layout(shape.codec == Codec::raw && shape.scope != kPerBlock ? kContiguous : kPacked);
  plane.mutate_vector(1);
  return plane;
}

std::uint8_t default_row_dims(DType dtype, std::span<const std::uint64_t> shape) {
  const auto rank = static_cast<std::uint8_t>(shape.size());
  if (rank == 0) return 0;
  const std::uint8_t row_dims = rank > 2 && shape.back() >= kWideRow ? static_cast<std::uint8_t>(rank - 1) : 1;
  // Rows that are not whole bytes cannot stand alone (spec/format.md, 13.1): such a tensor is one row.
  const std::uint64_t cols = matrix_view(shape, row_dims).cols;
  return u128{cols} * bits_of(dtype) % 8 == 0 ? row_dims : 0;
}

}  // namespace cdna
