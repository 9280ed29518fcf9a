// Codebooks whose entries lie on straight lines: the classes pwl16 and affine (spec/format.md, 13.3).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "libcdna/encode/samples.hpp"

namespace cdna {

inline constexpr std::uint32_t kSegments = 16;

// RN to binary16, within its finite range.
std::uint16_t rounded_half(double value);

// Base and step of 16 segments, alternating; close to `entries`, which fit freely. Requires: bits >= 5.
std::vector<std::uint16_t> fit_segments(const Samples& samples, std::span<const double> entries, std::uint32_t bits);
// Base and step.
std::vector<std::uint16_t> fit_affine(const Samples& samples, std::uint32_t bits);

// The 2^bits entries, ascending: RN16(base + l * step).
std::vector<std::uint16_t> entries_of_segments(std::span<const std::uint16_t> claim, std::uint32_t bits);
std::vector<std::uint16_t> entries_of_affine(std::span<const std::uint16_t> claim, std::uint32_t bits);

}  // namespace cdna
