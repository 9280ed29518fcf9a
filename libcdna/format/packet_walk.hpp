// Walks the items of a file in writing order and checks that each follows from those before it: rules I1..I15, P1..P9.
#pragma once

#include <cstdint>
#include <span>

#include "cdna/error.hpp"
#include "libcdna/format/footer.hpp"

namespace cdna {

class PacketWalk {
 public:
  explicit PacketWalk(std::uint8_t align_log2) : alignment_(std::uint64_t{1} << align_log2) {}

  // Checks what must hold before an item's slices may be taken: I1, I2, I5, I6 and the sums of I3.
  Result<void> enter(const wire::Item& item) const;

  // Checks the rest; the planes must end by `end` (P9), and only the last item may be the metadata (I12). Returns where
  // the item's record ends. Requires: enter(*view.item) succeeded.
  Result<std::uint64_t> check(const ItemView& view, std::uint64_t end, bool is_last) const;

  // Moves on to the next item. Requires: check() of this one returned `packet_end`.
  void leave(const wire::Item& item, std::uint64_t packet_end);

  // Sums over the items passed: where the next item's slices and packet begin.
  std::uint64_t packet_offset() const { return packet_offset_; }
  std::uint64_t first_dim() const { return first_dim_; }
  std::uint64_t first_plane() const { return first_plane_; }
  std::uint64_t text_offset() const { return text_offset_; }
  std::uint32_t item_number() const { return static_cast<std::uint32_t>(kinds_.size()); }
  std::uint64_t required_features() const { return required_features_; }
  std::uint64_t optional_features() const { return optional_features_; }
  bool has_metadata() const { return has_metadata_; }

 private:
  Result<void> check_kind(const ItemView& view, bool is_last) const;
  Result<void> check_planes(const ItemView& view, std::uint64_t end, std::uint64_t& position) const;
  Result<void> check_packet(const ItemView& view, std::uint64_t& position) const;

  std::uint64_t alignment_;
  std::uint64_t packet_offset_ = kHeadBytes;
  std::uint64_t first_dim_ = 0;
  std::uint64_t first_plane_ = 0;
  std::uint64_t text_offset_ = 0;
  std::uint64_t required_features_ = 0;
  std::uint64_t optional_features_ = 0;
  bool has_metadata_ = false;
  std::vector<std::uint16_t> kinds_;
};

}  // namespace cdna
