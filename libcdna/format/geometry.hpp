// What the numbers of a plane mean: rows, row bytes, blocks and their decoded lengths (spec/format.md 8.2).
#pragma once

#include <cstdint>
#include <span>

#include "libcdna/format/wire.hpp"

namespace cdna {

// Row-major rows x cols. Both fit: I8 bounds the product of max(dim, 1) below 2^60.
struct MatrixView {
  std::uint64_t rows = 1;
  std::uint64_t cols = 1;
};

MatrixView matrix_view(std::span<const std::uint64_t> dims, std::uint8_t row_dims);

// ceil(row_entries * bits / 8), below 2^64 for row_entries < 2^60 and bits <= 128.
std::uint64_t row_bytes_of(const wire::Plane& plane);

std::uint64_t rows_of(const wire::Plane& plane, const MatrixView& view);

// Decoded bytes of a plane of scope 0 or 1, unbounded.
u128 decoded_bytes_of(const wire::Plane& plane, const MatrixView& view);

// Blocks of a plane of scope 0 or 1 by the table of section 8.2.
u128 block_count_of(const wire::Plane& plane, const MatrixView& view);

// One block of a plane of scope 0 or 1: which rows, and within one cut row which entries.
struct BlockPlace {
  std::uint64_t row_begin = 0;
  std::uint64_t row_count = 0;
  std::uint64_t entry_begin = 0;  // Not 0 only where rows are cut.
  std::uint64_t entry_count = 0;  // Per row.
  std::uint64_t decoded_bytes = 0;
};

// Requires: block < block_count, and the plane obeys P1..P9.
BlockPlace block_place(const wire::Plane& plane, const MatrixView& view, std::uint64_t block);

// The block that holds entry `entry` of row `row`. Requires: they exist.
std::uint64_t block_at(const wire::Plane& plane, std::uint64_t row, std::uint64_t entry);

// Where a plane that is not empty starts, after `position` (section 7.2).
std::uint64_t start_of(const wire::Plane& plane, const MatrixView& view, std::uint64_t position,
                       std::uint64_t alignment);

// Length of the record of an item.
std::uint64_t record_bytes_of(const wire::Item& item);

}  // namespace cdna
