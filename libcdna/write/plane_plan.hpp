// How a writer lays out the planes of a new item: the rules of spec/format.md, 17, on which readers do not depend.
#pragma once

#include <cstdint>
#include <span>

#include "cdna/writer.hpp"
#include "libcdna/format/geometry.hpp"

namespace cdna {

// rows_per_block of a first plane whose rows have `row_bytes` bytes.
std::uint32_t plan_rows_per_block(std::uint64_t row_bytes, Role role);

// rows_per_block of a later plane of scope 1: the largest multiple of the first plane's that stays within 1 MiB.
std::uint32_t plan_side_rows_per_block(std::uint64_t row_bytes, std::uint32_t first_rows_per_block);

struct PlaneShape {
  PlaneRole role = kData;
  DType dtype = DType::none;
  std::uint32_t bits = 8;
  PlaneScope scope = kRows;
  std::uint64_t row_entries = 0;
  std::uint32_t rows_per_block = 0;
  Codec codec = Codec::raw;  // raw: contiguous, unless the plane's blocks have free length.
};

wire::Plane make_plane(const PlaneShape& shape);

}  // namespace cdna
