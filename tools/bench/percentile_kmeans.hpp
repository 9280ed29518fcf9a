// The quantiser of the Python original, re-implemented from a description of its procedure.
//
// k = 256 entries start at the percentiles 0 .. 100 of the values, take at most 10 Lloyd rounds, fitted to at most
// 500,000 of the values, and stop (as since its version 0.2.3) where no entry moved by 0.001 of the first entries'
// range, without the last move. What is strictly outside of the percentiles 0.1 and 99.9 is an outlier, kept in f16;
// of more than 512 those of the largest magnitude are. Not reproduced bit for bit: which values are drawn (numpy's
// RandomState(42)), means of f32 (here of f64), and distances of f32 in ties.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tools/bench/quantisers.hpp"

namespace cdna::tools::bench {

// Requires: values not empty.
Quantised quantise_by_percentile_kmeans(std::span<const float> values, std::uint64_t cols);

// Its fit to all of these values: at most `entries`, ascending. Requires: values ascending, not empty.
std::vector<float> fit_percentile_kmeans(std::span<const float> values, std::size_t entries);

// numpy.percentile with linear interpolation. Requires: values ascending, not empty; percent in 0..100.
double percentile_of(std::span<const float> values, double percent);

}  // namespace cdna::tools::bench
