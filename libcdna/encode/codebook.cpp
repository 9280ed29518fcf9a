// Midpoints, their tree, and their cells.
#include "libcdna/encode/codebook.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "libcdna/format/float_bits.hpp"

namespace cdna {

Codebook::Codebook(std::span<const std::uint16_t> entries, std::uint32_t bits)
    : tables_(std::make_unique<cdna_codebook>()) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  tables_->bits = bits;
  const std::size_t size = std::size_t{1} << bits;
  for (std::size_t i = 0; i < size; ++i) {
    tables_->halves[i] = entries[std::min(i, entries.size() - 1)];
    tables_->values[i] = f32_of_f16(tables_->halves[i]);
  }
  std::fill(std::begin(tables_->midpoints), std::end(tables_->midpoints), kInfinity);
  for (std::size_t i = 0; i + 1 < entries.size(); ++i) {
    // The sum is rounded where exponents differ by far.
    tables_->midpoints[i] = (tables_->values[i] + tables_->values[i + 1]) / 2;
  }
  fill_tree(tables_->midpoints);
  const std::span<const float> midpoints(tables_->midpoints, entries.size() - 1);
  for (std::uint32_t count = 256; count <= CDNA_CODEBOOK_CELLS_MAX; count *= 4) {
    if (fill_cells(midpoints, count)) return;
  }
  tables_->cell_count = 0;
}

void Codebook::fill_tree(std::span<const float> midpoints) {
  tables_->tree[0] = 0;
  for (std::uint32_t level = 0; level < bits(); ++level) {
    const std::size_t stride = std::size_t{1} << (bits() - level);
    for (std::size_t place = 0; place < std::size_t{1} << level; ++place)
      tables_->tree[(std::size_t{1} << level) + place] = midpoints[place * stride + stride / 2 - 1];
  }
}

// The cell of a value is a monotone function of it, rounding included. So midpoints in lower cells are below the value,
// those in higher ones are not, and the one in its own cell is left to compare with.
bool Codebook::fill_cells(std::span<const float> midpoints, std::uint32_t cell_count) {
  const float width = tables_->values[midpoints.size()] - tables_->values[0];
  const float per_unit = static_cast<float>(cell_count) / width;
  if (!(width > 0) || !std::isfinite(per_unit)) return false;
  tables_->cell_count = cell_count;
  tables_->cells_begin = tables_->values[0];
  tables_->cells_per_unit = per_unit;
  std::fill_n(tables_->cell_midpoint, cell_count, std::numeric_limits<float>::infinity());
  std::fill_n(tables_->cell_first_code, cell_count, 0);
  for (const float midpoint : midpoints) {
    const float place = (midpoint - tables_->cells_begin) * per_unit;
    const auto cell = static_cast<std::size_t>(std::clamp(place, 0.0F, static_cast<float>(cell_count - 1)));
    if (std::isfinite(tables_->cell_midpoint[cell])) return false;
    tables_->cell_midpoint[cell] = midpoint;
  }
  std::int32_t below = 0;
  for (std::uint32_t cell = 0; cell < cell_count; ++cell) {
    tables_->cell_first_code[cell] = below;
    if (std::isfinite(tables_->cell_midpoint[cell])) ++below;
  }
  return true;
}

float Codebook::magnitude() const { return std::max(std::abs(values().front()), std::abs(values().back())); }

std::uint8_t Codebook::code_of_zero() const {
  for (std::size_t i = 0; i < values().size(); ++i) {
    if (!std::signbit(values()[i])) return static_cast<std::uint8_t>(i);
  }
  return static_cast<std::uint8_t>(values().size() - 1);
}

}  // namespace cdna
