// The arithmetic of section 8.2. Products that a file chooses are taken in 128 bits.
#include "libcdna/format/geometry.hpp"

#include <algorithm>

namespace cdna {
namespace {

std::uint64_t divide_up(std::uint64_t value, std::uint64_t by) { return value / by + (value % by != 0 ? 1 : 0); }

}  // namespace

MatrixView matrix_view(std::span<const std::uint64_t> dims, std::uint8_t row_dims) {
  MatrixView view;
  for (std::size_t i = 0; i < dims.size(); ++i) (i < row_dims ? view.rows : view.cols) *= dims[i];
  return view;
}

std::uint64_t row_bytes_of(const wire::Plane& plane) {
  return static_cast<std::uint64_t>((u128{plane.row_entries()} * plane.bits() + 7) / 8);
}

std::uint64_t rows_of(const wire::Plane& plane, const MatrixView& view) {
  return plane.scope() == kRows ? view.rows : 1;
}

u128 decoded_bytes_of(const wire::Plane& plane, const MatrixView& view) {
  return u128{rows_of(plane, view)} * row_bytes_of(plane);
}

u128 block_count_of(const wire::Plane& plane, const MatrixView& view) {
  const std::uint64_t rows = rows_of(plane, view);
  if (decoded_bytes_of(plane, view) == 0) return 0;
  if (plane.rows_per_block() == 0) return u128{rows} * divide_up(plane.row_entries(), kCutEntries);
  return divide_up(rows, plane.rows_per_block());
}

BlockPlace block_place(const wire::Plane& plane, const MatrixView& view, std::uint64_t block) {
  BlockPlace place;
  if (plane.rows_per_block() != 0) {
    place.row_begin = block * plane.rows_per_block();
    place.row_count = std::min<std::uint64_t>(plane.rows_per_block(), rows_of(plane, view) - place.row_begin);
    place.entry_count = plane.row_entries();
    place.decoded_bytes = place.row_count * row_bytes_of(plane);
    return place;
  }
  const std::uint64_t pieces = divide_up(plane.row_entries(), kCutEntries);
  place.row_begin = block / pieces;
  place.row_count = 1;
  place.entry_begin = block % pieces * kCutEntries;
  place.entry_count = std::min(kCutEntries, plane.row_entries() - place.entry_begin);
  place.decoded_bytes = (place.entry_count * plane.bits() + 7) / 8;
  return place;
}

std::uint64_t block_at(const wire::Plane& plane, std::uint64_t row, std::uint64_t entry) {
  if (plane.rows_per_block() != 0) return row / plane.rows_per_block();
  return row * divide_up(plane.row_entries(), kCutEntries) + entry / kCutEntries;
}

std::uint64_t start_of(const wire::Plane& plane, const MatrixView& view, std::uint64_t position,
                       std::uint64_t alignment) {
  const bool big = plane.scope() != kPerBlock && decoded_bytes_of(plane, view) >= u128{kBigPlaneFactor} * alignment;
  return align_up(position, big ? alignment : kPacketAlignment);
}

std::uint64_t record_bytes_of(const wire::Item& item) {
  const std::uint64_t bytes = sizeof(wire::RecordFrame) + sizeof(wire::Item) + 8ULL * item.rank() +
                              sizeof(wire::Plane) * std::uint64_t{item.plane_count()} + item.name_length() +
                              item.type_length();
  return align_up(bytes, kPacketAlignment);
}

}  // namespace cdna
