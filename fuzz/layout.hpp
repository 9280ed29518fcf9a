// Where the parts of a CDNA file are, as far as its bytes say so: for mutation and repair of files that may be damaged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "libcdna/format/wire.hpp"

namespace cdna::fuzz {

enum class PartKind : std::uint8_t { head, tail, footer, item, plane, dim, order, text, index_entry, block, record };

// Bytes of the file with one purpose.
struct FilePart {
  PartKind kind = PartKind::head;
  std::size_t begin = 0;
  std::size_t end = 0;
  std::size_t parent = 0;  // Where the entry of a block begins; where the item of a record, index entry or plane does.
  std::size_t size() const { return end - begin; }
};

// A vector of the footer, as much of it as lies within the footer.
struct Pool {
  std::size_t begin = 0;  // In the file.
  std::size_t count = 0;
};

// Parts that lie within the file; they may overlap where the file says so. Empty without room for head and tail.
struct Layout {
  std::vector<FilePart> parts;
  Pool items, planes, dims, order, text;
};

Layout layout_of(std::span<const std::byte> file);

}  // namespace cdna::fuzz
