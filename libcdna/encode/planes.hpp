// Values of planes in memory, from any element to any other.
#pragma once

#include <cstdint>
#include <span>

#include "cdna/encode.hpp"

namespace cdna {

// decode() of the row-major elements from `begin` on that `out` has: nothing is read of the others. Requires: planes
// that Writer::add_encoded() takes for this dtype and columns; begin + out.size() is at most its elements.
void decode_elements(const EncodedPlanes& planes, DType dtype, std::uint64_t cols, std::uint64_t begin,
                     std::span<float> out);

}  // namespace cdna
