// Rules X1..X9 and U7.
#include "libcdna/format/index.hpp"

#include <algorithm>
#include <bit>
#include <string>

#include "cdna/codec.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/hash/sha256.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

// What must be known of the earlier blocks of a plane.
struct PlaneState {
  std::uint64_t end = 0;  // Of the block before, from the plane's offset.
  std::uint8_t codecs = 0;
  float max_abs_error = 0;
};

bool is_error_bound(float value) { return std::bit_cast<std::uint32_t>(value) <= 0x7F800000U; }

std::uint64_t expected_offset(const wire::Plane& plane, const wire::IndexEntry& entry, std::uint64_t end) {
  switch (plane.layout()) {
    case kContiguous:
      return end;
    case kPacked:
      return align_up(end, kPacketAlignment);
    default:
      return std::max(end, entry.offset());
  }
}

Result<void> check_length(const wire::Plane& plane, const MatrixView& matrix, const wire::IndexEntry& entry,
                          std::uint64_t block) {
  const bool fits = plane.scope() == kPerBlock
                        ? entry.decoded_length() <= kBlockBytesMax
                        : entry.decoded_length() == block_place(plane, matrix, block).decoded_bytes;
  CDNA_CHECK(fits, Code::malformed, "X3",
             "decoded_length " + std::to_string(entry.decoded_length()) + " is not what the geometry gives");
  return {};
}

// X7 but for its layouts.
bool lengths_fit(const ItemView& view, const wire::Plane& plane, const wire::IndexEntry& entry) {
  const std::uint32_t stored = entry.stored_length();
  const std::uint32_t decoded = entry.decoded_length();
  if (stored > kStoredBytesMax) return false;
  if (in_byte_planes(view, plane, entry)) return stored < decoded && stored > decoded - decoded / (plane.bits() / 8);
  if (entry.filter() != 0) return true;
  if (entry.codec() == 0) return stored == decoded;
  return entry.codec() > 2 || (stored > 0 && stored < decoded);
}

Result<void> check_codec(const ItemView& view, const wire::Plane& plane, const wire::IndexEntry& entry) {
  const bool listed = entry.codec() <= 7 && (plane.codecs() >> entry.codec() & 1) != 0;
  CDNA_CHECK(listed, Code::malformed, "X6", "codec " + std::to_string(entry.codec()) + " is not among the plane's");
  const bool plain = entry.codec() == 0 && entry.filter() == 0;
  CDNA_CHECK(lengths_fit(view, plane, entry) && (plane.layout() != kContiguous || plain), Code::malformed, "X7",
             "stored_length does not fit the codec");
  return {};
}

Result<void> check_entry(const ItemView& view, const wire::Plane& plane, const wire::IndexEntry& entry,
                         std::uint64_t block, PlaneState& state) {
  CDNA_CHECK(entry.reserved_a() == 0 && entry.reserved_b() == 0, Code::unsupported, "X2",
             "a reserved byte is not zero");
  CDNA_TRY(check_length(plane, view.matrix(), entry, block));
  CDNA_CHECK(entry.offset() == expected_offset(plane, entry, state.end), Code::malformed, "X4",
             "the block is not where it must be");
  const bool last = block + 1 == plane.block_count();
  const bool inside =
      entry.offset() <= plane.stored_length() && entry.stored_length() <= plane.stored_length() - entry.offset();
  CDNA_CHECK(inside && (!last || entry.offset() + entry.stored_length() == plane.stored_length()), Code::malformed,
             "X5", "the block ends beyond its plane, or the last block before its end");
  CDNA_TRY(check_codec(view, plane, entry));
  const bool bounded = &plane == &view.planes[0] && view.item->kind() != kAsset && view.item->kind() != kMetadata;
  const bool bound =
      is_error_bound(entry.max_abs_error()) && (bounded || std::bit_cast<std::uint32_t>(entry.max_abs_error()) == 0);
  CDNA_CHECK(bound, Code::malformed, "X8", "max_abs_error is NaN, negative, or stands where none may");
  state.end = entry.offset() + entry.stored_length();
  state.codecs = static_cast<std::uint8_t>(state.codecs | (1U << entry.codec()));
  state.max_abs_error = std::max(state.max_abs_error, entry.max_abs_error());
  return {};
}

}  // namespace

Result<void> check_index(const ItemView& view, std::span<const wire::IndexEntry> entries) {
  const std::uint64_t at = view.item->index_offset();
  CDNA_CHECK(sha256(std::as_bytes(entries)) == digest_in(view.item->index_digest()), Code::corrupt, "X1",
             "the index does not match its digest", at);
  std::size_t next = 0;
  bool codecs_occur = true;
  float max_abs_error = 0;
  for (std::size_t i = 0; i < view.planes.size(); ++i) {
    const wire::Plane& plane = view.planes[i];
    PlaneState state;
    for (std::uint64_t block = 0; block < plane.block_count(); ++block, ++next) {
      if (auto result = check_entry(view, plane, entries[next], block, state); !result) {
        result.error().plane = static_cast<std::int32_t>(i);
        result.error().block = static_cast<std::int64_t>(block);
        result.error().offset = at + next * sizeof(wire::IndexEntry);
        return result;
      }
    }
    codecs_occur = codecs_occur && state.codecs == plane.codecs();
    if (i == 0) max_abs_error = state.max_abs_error;
  }
  const bool maximum =
      std::bit_cast<std::uint32_t>(max_abs_error) == std::bit_cast<std::uint32_t>(view.item->max_abs_error());
  CDNA_CHECK(codecs_occur && maximum, Code::malformed, "X9",
             "the codecs or max_abs_error of the item are not those of its blocks", at);
  return {};
}

bool in_byte_planes(const ItemView& view, const wire::Plane& plane, const wire::IndexEntry& entry) {
  return entry.filter() == static_cast<std::uint8_t>(Filter::byte_planes) &&
         entry.codec() == static_cast<std::uint8_t>(Codec::zstd) && &plane == view.planes.data() &&
         allows_byte_planes(view);
}

Result<void> check_filters(const ItemView& view, std::span<const wire::IndexEntry> entries) {
  std::size_t next = 0;
  for (const wire::Plane& plane : view.planes) {
    for (std::uint64_t block = 0; block < plane.block_count(); ++block, ++next) {
      const bool optional = (plane.role() & kIgnorableRole) != 0;
      const bool known = entries[next].filter() == 0 || in_byte_planes(view, plane, entries[next]);
      CDNA_CHECK(optional || known, Code::unsupported, "U7",
                 "filter " + std::to_string(entries[next].filter()) + " is not known here",
                 view.item->index_offset() + next * sizeof(wire::IndexEntry));
    }
  }
  return {};
}

}  // namespace cdna
