// Writes one item: planes, index, record (spec/format.md, 7.2). Read by file.cpp and format/packet_walk.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cdna/codec.hpp"
#include "cdna/sink.hpp"
#include "libcdna/codec/codec.hpp"
#include "libcdna/format/footer.hpp"
#include "libcdna/format/footer_builder.hpp"
#include "libcdna/format/packet_walk.hpp"
#include "libcdna/io/spool.hpp"

namespace cdna {

// For blocks whose bytes are somebody else's.
inline std::vector<std::byte> copy_bytes(std::span<const std::byte> bytes) { return {bytes.begin(), bytes.end()}; }

// A block as it will be stored. Made by prepare_block(), on any thread.
struct PreparedBlock {
  std::vector<std::byte> stored;
  wire::IndexEntry entry;
};

// Compresses (in a packed plane) and hashes. Throws std::bad_alloc.
PreparedBlock prepare_block(BlockEncoder& encoder, const BlockCoding& coding, std::vector<std::byte> decoded,
                            float max_abs_error = 0);

// A sink that knows its position.
class PositionedSink {
 public:
  explicit PositionedSink(std::unique_ptr<Sink> sink) : sink_(std::move(sink)) {}
  Result<void> write(std::span<const std::byte> bytes);
  Result<void> pad_to(std::uint64_t position);  // With zeros. Requires: position >= position().
  Result<void> drain(Spool& spool);
  std::uint64_t position() const { return position_; }
  Result<void> commit() { return sink_->commit(); }

 private:
  std::unique_ptr<Sink> sink_;
  std::uint64_t position_ = 0;
};

// All of an item but its planes; places and digests are filled in by PacketWriter.
struct ItemDraft {
  wire::Item item;
  std::vector<std::uint64_t> dims;
  std::string name;
  std::string type;
};

class PacketWriter {
 public:
  // The sink stands at the beginning of the packet. `planes` have their geometry set; block_count, places and codecs
  // follow.
  PacketWriter(PositionedSink& sink, std::uint64_t alignment, ItemDraft draft, std::vector<wire::Plane> planes);

  // Appends the next block of a plane. Planes after the first wait in spools.
  Result<void> append(std::size_t plane, const PreparedBlock& block);

  // Leaves a plane out, with its blocks. Requires: it is not the first one, and not left out already.
  void drop(std::size_t plane);

  // Writes what waits, the index and the record, checks the item by the reader's own rules, and adds it to the footer.
  // Requires: all blocks appended.
  Result<void> finish(PacketWalk& walk, FooterBuilder& footer);

  wire::Item& item() { return draft_.item; }
  std::uint64_t stored_bytes() const;

 private:
  struct PlaneState {
    wire::Plane plane;
    std::vector<wire::IndexEntry> entries;
    std::uint64_t end = 0;  // Of the last block, from the plane's offset.
    Spool spool;
  };

  Result<void> begin_plane(PlaneState& state);
  Result<void> write_index();
  ItemView view() const;

  PositionedSink& sink_;
  std::uint64_t alignment_;
  ItemDraft draft_;
  std::vector<PlaneState> states_;
  std::vector<wire::Plane> planes_;  // As in the footer; filled by finish().
};

}  // namespace cdna
