// Makes the digests of a changed CDNA file right again, so that a mutation meets the rules behind them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace cdna::fuzz {

// What to repair; bits may be combined. Done in this order: an outer digest covers the inner ones.
enum Repair : std::uint8_t {
  kRepairBlocks = 1,    // Digests in the index entries.
  kRepairSources = 2,   // source_digest of exact tensors, assets and metadata that state one and whose blocks decode.
  kRepairIndices = 4,   // index_digest in the items.
  kRepairMasks = 8,     // The tail's feature masks, item_count and file_length.
  kRepairRecords = 16,  // Whole records, from the footer's items.
  kRepairFooter = 32,   // footer_digest in the tail.
  kRepairRoot = 64,     // The root in the tail.
  kRepairHead = 128,    // All of the head.
  kRepairAll = 255,
};

// Repairs from the inside out what can be found within `file`. Leaves a good file as it is.
void repair(std::span<std::byte> file, std::uint8_t what);

}  // namespace cdna::fuzz
