// Codebooks of 256 binary16 entries on 16 lines (spec/format.md, 13.3).
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "random.hpp"
#include "small_floats.hpp"

namespace cdna::test {

constexpr std::size_t kLines = 16;  // Of as many entries.

struct PwlEntries {
  std::array<std::uint16_t, kLines> bases = {};
  std::array<std::uint16_t, kLines> steps = {};
  std::vector<float> entries;
};

// Exact.
inline double sum_on_line(std::uint16_t base, std::uint16_t step, std::size_t l) {
  return value_of_f16(base) + static_cast<double>(l) * value_of_f16(step);
}

inline std::vector<float> entries_on_line(std::uint16_t base, std::uint16_t step) {
  std::vector<float> entries;
  for (std::size_t l = 0; l < kLines; ++l)
    entries.push_back(static_cast<float>(value_of_f16(f16_of(sum_on_line(base, step, l)))));
  return entries;
}

// Whether all sums are in the range of normal numbers.
inline bool stays_normal(std::uint16_t base, std::uint16_t step) {
  for (std::size_t l = 0; l < kLines; ++l) {
    const double magnitude = std::abs(sum_on_line(base, step, l));
    if (magnitude < 0x1p-14 || magnitude > 65504) return false;
  }
  return true;
}

// A normal number; every other one has few bits, so that sums are often ties.
inline std::uint16_t random_half(std::uint64_t exponent, Noise& noise) {
  const std::uint64_t fraction = noise.below(2) == 0 ? noise.below(1024) : noise.below(8) << 7;
  return static_cast<std::uint16_t>(noise.below(2) << 15 | exponent << 10 | fraction);
}

// Lines in any direction; sums have up to 24 bits, as many as an f32.
inline PwlEntries random_pwl_entries(Noise& noise) {
  PwlEntries book;
  while (book.entries.size() < kLines * kLines) {
    const std::uint64_t exponent = 5 + noise.below(26);
    const std::uint16_t base = random_half(exponent, noise);
    const std::uint64_t step_exponent = exponent + 4 - noise.below(13);
    if (step_exponent - 1 >= 30) continue;
    const std::uint16_t step = noise.below(16) == 0 ? std::uint16_t{0} : random_half(step_exponent, noise);
    if (!stays_normal(base, step)) continue;
    const std::size_t line = book.entries.size() / kLines;
    book.bases[line] = base;
    book.steps[line] = step;
    for (const float entry : entries_on_line(base, step)) book.entries.push_back(entry);
  }
  return book;
}

}  // namespace cdna::test
