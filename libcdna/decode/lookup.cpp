// cdna_lookup from the entries of a codebook.
#include "libcdna/decode/lookup.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>

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

// ---- Entries on lines: found from the entries alone, whatever the file states of them ----

constexpr std::size_t kPwlSegments = 16;  // Of as many entries.

// The numbers that round to a binary16, ends included. Requires: normal.
struct Range {
  explicit Range(std::uint16_t half) {
    const auto value_of = [](int bits) { return static_cast<double>(f32_of_f16(static_cast<std::uint16_t>(bits))); };
    const double inner = (value_of(half - 1) + value_of(half)) / 2;
    const double outer = (value_of(half + 1) + value_of(half)) / 2;
    least = std::min(inner, outer);
    most = std::max(inner, outer);
  }
  double least;
  double most;
};

// In the middle of the steps from one of a segment's entries to the next, if it is a line.
std::uint16_t middle_step_of(const float* entries) {
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
  for (std::size_t l = 1; l < kPwlSegments; ++l) {
    const Range range(f16_of_f32(entries[l]));
    least = std::max(least, (range.least - static_cast<double>(entries[0])) / static_cast<double>(l));
    most = std::min(most, (range.most - static_cast<double>(entries[0])) / static_cast<double>(l));
  }
  return least <= 0 && most >= 0 ? std::uint16_t{0} : f16_of_f64((least + most) / 2);
}

// What kernels make of a line, in the same operations; the product is exact.
float entry_on_line(float base, float step, std::size_t l) {
  const float sum = static_cast<float>(l) * step + base;
  const float large = sum * 8193.0F;  // 2^13 + 1 parts the upper 11 of 24 bits from the others (Dekker 1971).
  return large - (large - sum);
}

bool is_line(const float* entries, std::uint16_t half_step) {
  const float step = f32_of_f16(half_step);
  if (step != 0 && !is_normal_half(step)) return false;
  for (std::size_t l = 0; l < kPwlSegments; ++l) {
    if (!same_bits(entry_on_line(entries[0], step, l), entries[l])) return false;
  }
  return true;
}

// An end of a range does not always round to its entry, so that of two steps at both ends only one may be right.
std::optional<std::uint16_t> step_of(const float* entries) {
  const std::uint16_t middle = middle_step_of(entries);
  for (const int aside : {0, -1, 1}) {
    const auto step = static_cast<std::uint16_t>(middle + aside);
    if (is_line(entries, step)) return step;
  }
  return {};
}

// Requires: all else is there.
void find_lines(cdna_lookup& table) {
  if (table.bits != 8 || table.entry_unit == 1.0F) return;
  for (std::size_t h = 0; h < kPwlSegments; ++h) {
    const float* const entries = table.values + h * kPwlSegments;
    const std::optional<std::uint16_t> step = step_of(entries);
    if (!step) return;
    for (std::size_t plane = 0; plane < 2; ++plane) {
      table.pwl_planes[plane][h] = table.half_planes[plane][h * kPwlSegments];
      table.pwl_planes[plane + 2][h] = static_cast<std::uint8_t>(*step >> (8 * plane));
    }
  }
  table.is_pwl = 1;
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
  find_lines(*table);
  return table;
}

}  // namespace cdna
