// Records: the copies of an item's footer entries from which a lost footer is rebuilt (spec/format.md, section 10).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "libcdna/format/footer.hpp"

namespace cdna {

// The record of an item at `offset`.
std::vector<std::byte> append_record(const ItemView& view, std::uint32_t item_number, std::uint64_t offset);

// A record found in a damaged file, with its own copies of the slices.
struct Record {
  wire::Item item;
  std::uint64_t size_bytes = 0;
  std::vector<std::uint64_t> dims;
  std::vector<wire::Plane> planes;
  std::string text;

  ItemView view() const;
};

// Length of the record whose frame begins `bytes`, if these 64 bytes can be the frame of record `item_number` at
// `offset`.
std::optional<std::uint32_t> record_bytes_at(std::span<const std::byte> frame, std::uint32_t item_number,
                                             std::uint64_t offset);

// The record in `bytes` (its whole length), if it is intact and its own length is what its item says.
std::optional<Record> parse_record(std::span<const std::byte> bytes);

}  // namespace cdna
