// What a tensor costs in a file beside its planes and its index.
#pragma once

#include <cstdint>

#include "cdna/codec.hpp"
#include "cdna/import.hpp"
#include "cdna/preset.hpp"

namespace cdna {

// What the footer's padding may add once (spec/format.md, 5.2 and 6): before text, behind it, and before the tail.
inline constexpr std::uint64_t kFooterPaddingBytesMax = 80;

// Record, entries in the footer and padding (spec/format.md, 6, 7.2 and 10) of a tensor that Writer stores with its
// default alignment. `stored_bytes`: planes and index, as measure() gives them. Never too low where those are exact;
// exact for tensors of at most 2^20 elements with codec raw, else at most 64 bytes for each compressed plane, and 4096
// for each plane from 1 MiB on, too high.
std::uint64_t overhead_of(const ModelTensor& tensor, const Preset& preset, Codec codec, std::uint64_t stored_bytes);

std::uint64_t overhead_of_alias(const ModelTensor& tensor);

}  // namespace cdna
