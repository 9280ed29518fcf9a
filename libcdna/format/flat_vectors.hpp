// The one layout that CDNA allows for a FlatBuffer: a root table of vectors of fixed-size elements, each at the only
// place it can have (spec/format.md, sections 6 and 14). Any FlatBuffers library reads it; no two entries share bytes.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "cdna/error.hpp"

namespace cdna {

struct FlatVector {
  std::uint64_t offset = 0;  // Of the first element.
  std::uint64_t count = 0;
};

// Identifier and element sizes of one kind of buffer. At most 5 vectors.
struct FlatLayout {
  std::string_view identifier;
  std::span<const std::uint32_t> element_bytes;
};

// Why a buffer is not laid out as it must be.
enum class FlatFault : std::uint8_t { none, prefix, vectors };

struct FlatVectors {
  FlatFault fault = FlatFault::none;
  std::uint64_t fault_offset = 0;
  std::array<FlatVector, 5> vectors{};
};

// Finds the vectors. With FlatFault::none every element lies within `bytes` and every byte is accounted for.
FlatVectors parse_flat(const FlatLayout& layout, std::span<const std::byte> bytes);

// The buffer that holds these vectors; contents[i].size() is a multiple of element_bytes[i].
std::vector<std::byte> append_flat(const FlatLayout& layout, std::span<const std::span<const std::byte>> contents);

}  // namespace cdna
