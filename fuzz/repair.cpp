// Each step finds its parts by layout_of and writes only into them.
#include "fuzz/repair.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "cdna/dtype.hpp"
#include "fuzz/layout.hpp"
#include "libcdna/codec/codec.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/format/record.hpp"
#include "libcdna/format/tail.hpp"
#include "libcdna/hash/sha256.hpp"

namespace cdna::fuzz {
namespace {

using Bytes = std::vector<std::byte>;
constexpr std::size_t kDecodedBytesMax = std::size_t{1} << 18;  // Of an item whose source digest is repaired.
constexpr std::size_t kRootedBytes = 216;                       // spec/format.md, 5.2: what the root is taken over.

class Repairer {
 public:
  explicit Repairer(std::span<std::byte> file) : file_(file), layout_(layout_of(file)) {}

  void run(std::uint8_t what) {
    if ((what & kRepairBlocks) != 0) {
      for_each(PartKind::block,
               [&](const FilePart& part) { repair_digest(part.parent, bytes(part.begin, part.size())); });
      for_each(PartKind::index_entry, [&](const FilePart& part) {
        if (get<wire::IndexEntry>(part.begin).stored_length() == 0) repair_digest(part.begin, {});
      });
    }
    if ((what & kRepairSources) != 0)
      for_each(PartKind::item, [&](const FilePart& part) { repair_source(part.begin); });
    if ((what & kRepairIndices) != 0) for_each(PartKind::item, [&](const FilePart& part) { repair_index(part.begin); });
    if ((what & kRepairMasks) != 0) for_each(PartKind::tail, [&](const FilePart& part) { repair_masks(part.begin); });
    if ((what & kRepairRecords) != 0) for_each(PartKind::record, [&](const FilePart& part) { repair_record(part); });
    for_each(PartKind::tail, [&](const FilePart& part) { repair_tail(part.begin, what); });
  }

 private:
  template <class T>
  T get(std::size_t at) const {
    return load<T>(bytes(at, sizeof(T)));
  }
  template <class T>
  void put(std::size_t at, const T& value) {
    std::memcpy(file_.data() + at, static_cast<const void*>(&value), sizeof value);
  }
  std::span<const std::byte> bytes(std::size_t at, std::size_t size) const { return file_.subspan(at, size); }
  bool fits(std::uint64_t at, std::uint64_t size) const { return at <= file_.size() && size <= file_.size() - at; }

  template <class Action>
  void for_each(PartKind kind, Action action) const {
    for (const FilePart& part : layout_.parts) {
      if (part.kind == kind) action(part);
    }
  }

  void repair_digest(std::size_t entry_at, std::span<const std::byte> stored) {
    auto entry = get<wire::IndexEntry>(entry_at);
    set_bytes(entry.mutable_digest(), bulk_digest(stored));
    put(entry_at, entry);
  }

  void repair_source(std::size_t item_at) {
    auto item = get<wire::Item>(item_at);
    const auto slices = slices_of(item);
    if (!slices || slices->planes.empty() || slices->type == kCodebookEncoding) return;
    if (all_zero(bytes_in(item.source_digest()))) return;
    const auto content = decode_plane(item, slices->planes[0]);
    if (!content) return;
    set_bytes(item.mutable_source_digest(), bulk_digest(*content));
    put(item_at, item);
  }

  // The decoded bytes of the item's first plane, if they can be had.
  std::optional<Bytes> decode_plane(const wire::Item& item, const wire::Plane& plane) const {
    const auto element_bytes = bits_of(static_cast<DType>(item.dtype())) / 8;
    std::uint64_t entry_at = item.index_offset();
    Bytes out;
    for (std::uint32_t i = 0; i < plane.block_count(); ++i, entry_at += sizeof(wire::IndexEntry)) {
      if (!fits(entry_at, sizeof(wire::IndexEntry))) return std::nullopt;
      const auto entry = get<wire::IndexEntry>(entry_at);
      const std::uint64_t at = plane.offset() + entry.offset();
      const bool possible = fits(at, entry.stored_length()) && entry.decoded_length() <= kDecodedBytesMax - out.size();
      if (!possible || !decode_block(entry, element_bytes, bytes(at, entry.stored_length()), out)) return std::nullopt;
    }
    return out;
  }

  static bool decode_block(const wire::IndexEntry& entry, std::uint32_t element_bytes,
                           std::span<const std::byte> stored, Bytes& out) {
    if (entry.codec() == 0) {
      out.insert(out.end(), stored.begin(), stored.end());
      return true;
    }
    if (entry.codec() > 2 || stored.empty() || entry.decoded_length() == 0) return false;
    const std::size_t begin = out.size();
    out.resize(begin + entry.decoded_length());
    BlockCoding coding(static_cast<Codec>(entry.codec()));
    if (entry.filter() == 1 && entry.codec() == 1 && element_bytes >= 2 && element_bytes <= 8) {
      const std::size_t raw_bytes = entry.decoded_length() - entry.decoded_length() / element_bytes;
      if (entry.decoded_length() % element_bytes != 0 || stored.size() <= raw_bytes) return false;
      coding = BlockCoding::byte_planes(element_bytes);
    }
    BlockDecoder decoder;
    return decoder.decode(coding, stored, std::span(out).subspan(begin)).has_value();
  }

  void repair_index(std::size_t item_at) {
    auto item = get<wire::Item>(item_at);
    const std::uint64_t size = sizeof(wire::IndexEntry) * std::uint64_t{item.entry_count()};
    if (!fits(item.index_offset(), size)) return;
    set_bytes(item.mutable_index_digest(), sha256(bytes(item.index_offset(), size)));
    put(item_at, item);
  }

  void repair_masks(std::size_t tail_at) {
    auto tail = get<wire::Tail>(tail_at);
    std::uint64_t required = 0;
    std::uint64_t optional = 0;
    for_each(PartKind::item, [&](const FilePart& part) {
      const auto item = get<wire::Item>(part.begin);
      required |= item.required_features();
      optional |= item.optional_features();
    });
    tail.mutate_required_features(required);
    tail.mutate_optional_features(optional);
    tail.mutate_item_count(static_cast<std::uint32_t>(layout_.items.count));
    tail.mutate_file_length(file_.size());
    put(tail_at, tail);
  }

  void repair_record(const FilePart& record) {
    const auto item = get<wire::Item>(record.parent);
    const auto slices = slices_of(item);
    if (!slices) return;
    const auto number = static_cast<std::uint32_t>((record.parent - layout_.items.begin) / sizeof(wire::Item));
    const ItemView view{&item, slices->dims, slices->planes, slices->name, slices->type};
    const Bytes made = append_record(view, number, record.begin);
    if (made.size() == record.size()) std::copy(made.begin(), made.end(), file_.data() + record.begin);
  }

  // The last steps, in their order: the root covers the footer's digest, and the head repeats the tail.
  void repair_tail(std::size_t tail_at, std::uint8_t what) {
    auto tail = get<wire::Tail>(tail_at);
    if ((what & kRepairFooter) != 0 && fits(tail.footer_offset(), tail.footer_length()))
      set_bytes(tail.mutable_footer_digest(), sha256(bytes(tail.footer_offset(), tail.footer_length())));
    if ((what & kRepairRoot) != 0) {
      set_bytes(tail.mutable_root(), sha256(bytes_of(tail).first(kRootedBytes)));
      set_bytes(tail.mutable_magic(), kTailMagic);
    }
    put(tail_at, tail);
    if ((what & kRepairHead) != 0) put(0, make_head(tail.align_log2()));
  }

  // An item's slices of the pools, in copies.
  struct Slices {
    std::vector<std::uint64_t> dims;
    std::vector<wire::Plane> planes;
    std::string_view name;
    std::string_view type;
  };

  template <class T>
  std::vector<T> slice(const Pool& pool, std::size_t first, std::size_t count) const {
    std::vector<T> out;
    for (std::size_t i = first; i < first + count; ++i) out.push_back(get<T>(pool.begin + i * sizeof(T)));
    return out;
  }

  // Nothing where they do not lie within the pools.
  std::optional<Slices> slices_of(const wire::Item& item) const {
    const auto within = [](const Pool& pool, std::size_t first, std::size_t count) {
      return first <= pool.count && count <= pool.count - first;
    };
    const std::size_t text_bytes = std::size_t{item.name_length()} + item.type_length();
    if (!within(layout_.dims, item.first_dim(), item.rank()) ||
        !within(layout_.planes, item.first_plane(), item.plane_count()) ||
        !within(layout_.text, item.text_offset(), text_bytes)) {
      return std::nullopt;
    }
    const std::string_view text = text_of(bytes(layout_.text.begin + item.text_offset(), text_bytes));
    return Slices{slice<std::uint64_t>(layout_.dims, item.first_dim(), item.rank()),
                  slice<wire::Plane>(layout_.planes, item.first_plane(), item.plane_count()),
                  text.substr(0, item.name_length()), text.substr(item.name_length())};
  }

  std::span<std::byte> file_;
  Layout layout_;
};

}  // namespace

void repair(std::span<std::byte> file, std::uint8_t what) { Repairer(file).run(what); }

}  // namespace cdna::fuzz
