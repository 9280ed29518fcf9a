// HXZO files: outliers of one matrix, beside it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/metadata.hpp"
#include "cdna/source.hpp"

namespace cdna {

struct HxzoSidecar {
  std::string file;  // For messages.
  std::string tensor_name;
  std::vector<std::uint64_t> shape;
  Metadata metadata;                     // "helix:sidecar:KEY"
  std::vector<std::uint64_t> positions;  // Row-major in the matrix, ascending, each once.
  std::vector<std::byte> values;         // F16, little-endian, as many: what replaces the values there.
  std::uint64_t stated_count = 0;        // Positions in the file.
  std::uint64_t repeated_positions = 0;  // Of these, those that a later one of the same place replaces.
  std::uint64_t nonfinite_values = 0;    // Infinite or NaN: the original's rounding to half precision made them.
};

// Reads a whole file, versions 1 and 2. Errors: io, truncated, malformed (also: a position outside of the shape),
// unsupported, limit; with file, tensor and offset. Memory: 12 bytes for each position that the file can hold.
Result<HxzoSidecar> read_hxzo(const Source& source);

}  // namespace cdna
