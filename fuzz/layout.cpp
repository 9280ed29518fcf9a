// Follows tail, footer and indices without trusting any of their numbers.
#include "fuzz/layout.hpp"

#include <algorithm>
#include <utility>

#include "libcdna/format/geometry.hpp"

namespace cdna::fuzz {
namespace {

constexpr std::size_t kPartsMax = 4096;
constexpr std::size_t kFirstVectorAt = 48;  // spec/format.md, section 6: after the root table.

class Finder {
 public:
  explicit Finder(std::span<const std::byte> file) : file_(file) {}

  Layout find() {
    if (file_.size() < kHeadBytes + kTailBytes) return {};
    const std::size_t tail_at = file_.size() - kTailBytes;
    add(PartKind::head, 0, kHeadBytes, 0);
    add(PartKind::tail, tail_at, kTailBytes, 0);
    const auto tail = load<wire::Tail>(file_.subspan(tail_at));
    if (!fits(tail.footer_offset(), tail.footer_length())) return std::move(out_);
    footer_begin_ = tail.footer_offset();
    footer_ = file_.subspan(footer_begin_, tail.footer_length());
    add(PartKind::footer, footer_begin_, footer_.size(), 0);
    find_pools();
    for (std::size_t i = 0; i < out_.items.count; ++i) find_packet(out_.items.begin + i * sizeof(wire::Item));
    return std::move(out_);
  }

 private:
  bool fits(std::uint64_t begin, std::uint64_t size) const {
    return begin <= file_.size() && size <= file_.size() - begin;
  }

  void add(PartKind kind, std::uint64_t begin, std::uint64_t size, std::size_t parent) {
    if (size == 0 || !fits(begin, size) || out_.parts.size() >= kPartsMax) return;
    out_.parts.push_back({kind, static_cast<std::size_t>(begin), static_cast<std::size_t>(begin + size), parent});
  }

  // The vector whose count stands at the first place p >= `end` with p mod 8 = 4; moves `end` behind it.
  Pool take_pool(std::size_t& end, std::size_t element_bytes) const {
    const std::size_t at = end + (12 - end % 8) % 8;
    if (at > footer_.size() || footer_.size() - at < sizeof(std::uint32_t)) return {};
    const std::size_t begin = at + sizeof(std::uint32_t);
    const std::size_t count =
        std::min<std::size_t>(load<std::uint32_t>(footer_.subspan(at)), (footer_.size() - begin) / element_bytes);
    end = begin + count * element_bytes;
    return {footer_begin_ + begin, count};
  }

  void find_pools() {
    std::size_t end = kFirstVectorAt;
    out_.items = take_pool(end, sizeof(wire::Item));
    out_.planes = take_pool(end, sizeof(wire::Plane));
    out_.dims = take_pool(end, sizeof(std::uint64_t));
    out_.order = take_pool(end, sizeof(std::uint32_t));
    out_.text = take_pool(end, 1);
    for (std::size_t i = 0; i < out_.dims.count; ++i) add(PartKind::dim, out_.dims.begin + 8 * i, 8, 0);
    for (std::size_t i = 0; i < out_.order.count; ++i) add(PartKind::order, out_.order.begin + 4 * i, 4, 0);
    add(PartKind::text, out_.text.begin, out_.text.count, 0);
  }

  void find_packet(std::size_t item_at) {
    add(PartKind::item, item_at, sizeof(wire::Item), 0);
    const auto item = load<wire::Item>(file_.subspan(item_at));
    std::uint64_t entry_at = item.index_offset();
    std::uint64_t end = item.packet_offset();
    for (std::uint64_t i = item.first_plane(); i < item.first_plane() + std::uint64_t{item.plane_count()}; ++i) {
      if (i >= out_.planes.count) break;
      const std::size_t plane_at = out_.planes.begin + i * sizeof(wire::Plane);
      const auto plane = load<wire::Plane>(file_.subspan(plane_at));
      add(PartKind::plane, plane_at, sizeof(wire::Plane), item_at);
      find_blocks(plane, entry_at, item_at);
      if (plane.stored_length() != 0) end = plane.offset() + plane.stored_length();
    }
    const std::uint64_t index_bytes = sizeof(wire::IndexEntry) * std::uint64_t{item.entry_count()};
    if (index_bytes != 0) end = item.index_offset() + index_bytes;
    add(PartKind::record, align_up(end, kPacketAlignment), record_bytes_of(item), item_at);
  }

  void find_blocks(const wire::Plane& plane, std::uint64_t& entry_at, std::size_t item_at) {
    for (std::uint32_t i = 0; i < plane.block_count() && fits(entry_at, sizeof(wire::IndexEntry)); ++i) {
      if (out_.parts.size() >= kPartsMax) return;
      const auto entry = load<wire::IndexEntry>(file_.subspan(entry_at));
      add(PartKind::index_entry, entry_at, sizeof(wire::IndexEntry), item_at);
      add(PartKind::block, plane.offset() + entry.offset(), entry.stored_length(), static_cast<std::size_t>(entry_at));
      entry_at += sizeof(wire::IndexEntry);
    }
  }

  std::span<const std::byte> file_;
  std::span<const std::byte> footer_;
  std::size_t footer_begin_ = 0;
  Layout out_;
};

}  // namespace

Layout layout_of(std::span<const std::byte> file) { return Finder(file).find(); }

}  // namespace cdna::fuzz
