// cdna_lookup from the entries of a codebook.
#include "libcdna/decode/lookup.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "libcdna/format/float_bits.hpp"

namespace cdna {
namespace {

float largest_magnitude(std::span<const float> entries) {
  float largest = 0;
  for (const float entry : entries) {
    if (std::isfinite(entry)) largest = std::max(largest, std::abs(entry));
  }
  return largest;
}

std::uint16_t fixed_of(float entry, float step) {
  if (step == 0 || !std::isfinite(entry)) return 32768;
  const double steps = std::nearbyint(static_cast<double>(entry) / static_cast<double>(step));
  return static_cast<std::uint16_t>(std::clamp(steps, -32767.0, 32767.0) + 32768.0);
}

bool same_bits(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

// The largest bf16 number instead of infinity, for a number beyond it: an infinity would make NaN of a column that is
// 0.
std::uint16_t finite_bf16_of(float entry) {
  const std::uint16_t narrow = bf16_of_f32(entry);
  const bool overflows = std::isfinite(entry) && (narrow & 0x7FFFU) == 0x7F80U;
  return static_cast<std::uint16_t>(overflows ? narrow - 1 : narrow);
}

// A normal number, not 0.
bool is_normal_half(float entry) {
  const float magnitude = std::abs(entry);
  return same_bits(f32_of_f16(f16_of_f32(entry)), entry) && magnitude >= 0x1p-14F && magnitude <= 65504.0F;
}

void put(std::uint8_t (&planes)[2][256], std::size_t place, std::uint16_t word) {
  planes[0][place] = static_cast<std::uint8_t>(word);
  planes[1][place] = static_cast<std::uint8_t>(word >> 8);
}

}  // namespace

std::unique_ptr<cdna_lookup> make_lookup(std::span<const float> entries, Entries rounding) {
  auto table = std::make_unique<cdna_lookup>();
  table->bits = static_cast<std::uint32_t>(std::bit_width(entries.size()) - 1);
  table->is_half = 1;
  table->entry_unit = table->bits == 4 ? 1.0F : 65536.0F;
  table->fixed_step = largest_magnitude(entries) / 32767.0F;
  for (std::size_t place = 0; place < 256; ++place) {
    float entry = entries[place % entries.size()];
    const std::uint16_t narrow = finite_bf16_of(entry);
    if (rounding == Entries::rounded_to_bf16) entry = f32_of_bf16(narrow);
    const std::uint16_t half = f16_of_f32(entry);
    if (!same_bits(f32_of_f16(half), entry)) table->is_half = 0;
    if (!is_normal_half(entry)) table->entry_unit = 1.0F;
    table->values[place] = entry;
    const auto bits = std::bit_cast<std::uint32_t>(entry);
    for (std::size_t plane = 0; plane < 4; ++plane)
      table->planes[plane][place] = static_cast<std::uint8_t>(bits >> (8 * plane));
    put(table->half_planes, place, half);
    put(table->bf16_planes, place, narrow);
    put(table->fixed_planes, place, fixed_of(entry, table->fixed_step));
  }
  return table;
}

}  // namespace cdna
