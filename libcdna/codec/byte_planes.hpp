// Filter 1: elements split into byte planes, of which the last is compressed (spec/format.md, 12.1).
#pragma once

#include <cstddef>
#include <span>

#include "libcdna/cpu.hpp"

namespace cdna {

// Planes 0 to element_bytes - 2 one after the other into `planes`, the last into `last`. Requires: element_bytes 2, 4
// or 8, elements.size() == count * element_bytes with count == last.size(), planes.size() == elements.size() - count;
// is_available(isa). Allocates nothing.
void split_byte_planes(Isa isa, std::size_t element_bytes, std::span<const std::byte> elements,
                       std::span<std::byte> planes, std::span<std::byte> last);

// The reverse. `last` may be the end of `elements`; apart from that nothing overlaps.
void join_byte_planes(Isa isa, std::size_t element_bytes, std::span<const std::byte> planes,
                      std::span<const std::byte> last, std::span<std::byte> elements);

}  // namespace cdna
