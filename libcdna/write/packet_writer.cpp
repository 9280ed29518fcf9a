// PacketWriter: the first plane goes straight to the sink, the others wait until it is out.
#include "libcdna/write/packet_writer.hpp"

#include <algorithm>
#include <array>
#include <cassert>

#include "libcdna/format/names.hpp"
#include "libcdna/format/record.hpp"
#include "libcdna/hash/sha256.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::size_t kSpoolBytesMax = std::size_t{16} << 20;  // Per plane; a codebook tensor has two that grow.

}  // namespace

PreparedBlock prepare_block(BlockEncoder& encoder, const BlockCoding& coding, std::vector<std::byte> decoded,
                            float max_abs_error) {
  PreparedBlock block;
  block.entry.mutate_decoded_length(static_cast<std::uint32_t>(decoded.size()));
  block.entry.mutate_max_abs_error(max_abs_error);
  if (encoder.compress(coding, decoded, block.stored)) {
    block.entry.mutate_codec(static_cast<std::uint8_t>(coding.codec));
    block.entry.mutate_filter(static_cast<std::uint8_t>(coding.filter));
  } else {
    block.stored = std::move(decoded);
  }
  block.entry.mutate_stored_length(static_cast<std::uint32_t>(block.stored.size()));
  set_bytes(block.entry.mutable_digest(), bulk_digest(block.stored));
  return block;
}

Result<void> PositionedSink::write(std::span<const std::byte> bytes) {
  CDNA_TRY(sink_->write(bytes));
  position_ += bytes.size();
  return {};
}

Result<void> PositionedSink::pad_to(std::uint64_t position) {
  static constexpr std::array<std::byte, 4096> kZeros{};
  while (position_ < position) {
    CDNA_TRY(write(std::span(kZeros).first(std::min<std::uint64_t>(kZeros.size(), position - position_))));
  }
  return {};
}

Result<void> PositionedSink::drain(Spool& spool) {
  CDNA_TRY(spool.drain(*sink_));
  position_ += spool.size_bytes();
  return {};
}

PacketWriter::PacketWriter(PositionedSink& sink, std::uint64_t alignment, ItemDraft draft,
                           std::vector<wire::Plane> planes)
    : sink_(sink), alignment_(alignment), draft_(std::move(draft)) {
  for (const wire::Plane& plane : planes) states_.push_back({plane, {}, 0, Spool(kSpoolBytesMax)});
  draft_.item.mutate_packet_offset(sink.position());
  draft_.item.mutate_plane_count(static_cast<std::uint8_t>(planes.size()));
}

Result<void> PacketWriter::append(std::size_t plane, const PreparedBlock& block) {
  PlaneState& state = states_[plane];
  const std::uint64_t offset = state.plane.layout() == kPacked ? align_up(state.end, kPacketAlignment) : state.end;
  wire::IndexEntry entry = block.entry;
  entry.mutate_offset(offset);
  state.entries.push_back(entry);
  state.plane.mutate_codecs(static_cast<std::uint8_t>(state.plane.codecs() | 1U << entry.codec()));
  const std::uint64_t padding = offset - state.end;
  state.end = offset + block.stored.size();
  if (plane == 0) {
    if (state.plane.offset() == 0 && !block.stored.empty()) CDNA_TRY(begin_plane(state));
    CDNA_TRY(sink_.pad_to(sink_.position() + padding));
    return sink_.write(block.stored);
  }
  static constexpr std::array<std::byte, kPacketAlignment> kZeros{};
  CDNA_TRY(state.spool.append(std::span(kZeros).first(padding)));
  return state.spool.append(block.stored);
}

void PacketWriter::drop(std::size_t plane) {
  states_.erase(states_.begin() + static_cast<std::ptrdiff_t>(plane));
  draft_.item.mutate_plane_count(static_cast<std::uint8_t>(states_.size()));
}

// Pads to the plane's place and notes it.
Result<void> PacketWriter::begin_plane(PlaneState& state) {
  const std::uint64_t offset =
      start_of(state.plane, matrix_view(draft_.dims, draft_.item.row_dims()), sink_.position(), alignment_);
  state.plane.mutate_offset(offset);
  return sink_.pad_to(offset);
}

Result<void> PacketWriter::finish(PacketWalk& walk, FooterBuilder& footer) {
  std::uint64_t entry_count = 0;
  float max_abs_error = 0;
  for (std::size_t i = 0; i < states_.size(); ++i) {
    PlaneState& state = states_[i];
    if (i > 0 && state.end > 0) {
      CDNA_TRY(begin_plane(state));
      CDNA_TRY(sink_.drain(state.spool));
    }
    state.plane.mutate_stored_length(state.end);
    state.plane.mutate_block_count(static_cast<std::uint32_t>(state.entries.size()));
    planes_.push_back(state.plane);
    entry_count += state.entries.size();
  }
  if (!states_.empty()) {
    for (const wire::IndexEntry& entry : states_[0].entries)
      max_abs_error = std::max(max_abs_error, entry.max_abs_error());
  }
  draft_.item.mutate_max_abs_error(max_abs_error);
  draft_.item.mutate_entry_count(static_cast<std::uint32_t>(entry_count));
  CDNA_TRY(write_index());

  draft_.item.mutate_first_dim(footer.next_dim());
  draft_.item.mutate_first_plane(footer.next_plane());
  draft_.item.mutate_text_offset(static_cast<std::uint32_t>(footer.next_text()));
  const std::uint64_t record_offset = align_up(sink_.position(), kPacketAlignment);
  CDNA_TRY(sink_.pad_to(record_offset));
  CDNA_TRY(sink_.write(append_record(view(), footer.item_count(), record_offset)));
  CDNA_TRY(walk.enter(draft_.item));
  const std::uint64_t packet_end = CDNA_TRY(walk.check(view(), record_offset, true));
  assert(packet_end == sink_.position());
  walk.leave(draft_.item, packet_end);
  footer.add(view());
  return {};
}

Result<void> PacketWriter::write_index() {
  Sha256 hasher;
  for (const PlaneState& state : states_) hasher.update(std::as_bytes(std::span(state.entries)));
  set_bytes(draft_.item.mutable_index_digest(), hasher.finish());
  if (draft_.item.entry_count() == 0) return {};
  CDNA_TRY(sink_.pad_to(align_up(sink_.position(), kPacketAlignment)));
  draft_.item.mutate_index_offset(sink_.position());
  for (const PlaneState& state : states_) CDNA_TRY(sink_.write(std::as_bytes(std::span(state.entries))));
  return {};
}

ItemView PacketWriter::view() const { return {&draft_.item, draft_.dims, planes_, draft_.name, draft_.type}; }

std::uint64_t PacketWriter::stored_bytes() const {
  std::uint64_t bytes = 0;
  for (const PlaneState& state : states_) bytes += state.end + state.entries.size() * sizeof(wire::IndexEntry);
  return bytes;
}

}  // namespace cdna
