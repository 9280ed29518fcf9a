// A foreign codebook and its indices as the planes of cdna.codebook: entries ascending, codes packed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cdna/error.hpp"

namespace cdna {

// Codebook and codes of EncodedPlanes.
struct CodedMatrix {
  std::uint32_t bits = 0;        // The smallest b >= 1 with 2^b >= entries of the source.
  std::uint32_t vector = 1;      // Elements of an entry.
  std::vector<float> codebook;   // [2^bits, vector]
  std::vector<std::byte> codes;  // [rows, ceil(indices of a row * bits / 8)]
};

// Sorts entries ascending (stably, where vector is 1; entries of several elements keep their places), gives the indices
// the new numbers and packs them: entry codebook[code] has the bits of entries[index], the sign of a zero included. The
// last entry is repeated up to 2^bits. What is not finite in an entry without index becomes 0. Requires:
// entries.size() is k * vector with 1 <= k <= 65536, indices.size() a multiple of `rows`. Errors: malformed: an index
// that is not below k, an index of an entry that is not finite; with row and column of the index. Cost: O(indices).
Result<CodedMatrix> sort_codebook(std::span<const float> entries, std::uint32_t vector,
                                  std::span<const std::uint8_t> indices, std::uint64_t rows);
Result<CodedMatrix> sort_codebook(std::span<const float> entries, std::uint32_t vector,
                                  std::span<const std::uint16_t> indices, std::uint64_t rows);

}  // namespace cdna
