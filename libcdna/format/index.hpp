// The index of an item: one 64-byte entry per block (spec/format.md, section 9). Written by packet_writer.cpp.
#pragma once

#include <cstdint>
#include <span>

#include "cdna/error.hpp"
#include "libcdna/format/footer.hpp"

namespace cdna {

// Checks X1..X9 on a private copy of an item's index array. Errors state plane, block and byte offset.
Result<void> check_index(const ItemView& view, std::span<const wire::IndexEntry> entries);

// Whether the block is in byte planes, in a place where they are known (spec/format.md, 12.1).
bool in_byte_planes(const ItemView& view, const wire::Plane& plane, const wire::IndexEntry& entry);

// Checks U7: whether every filter is known.
Result<void> check_filters(const ItemView& view, std::span<const wire::IndexEntry> entries);

}  // namespace cdna
