// Rules I1..I15 and P1..P9, in the order of spec/format.md 16.2.
#include "libcdna/format/packet_walk.hpp"

#include <algorithm>
#include <bit>
#include <string>

#include "cdna/dtype.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/hash/sha256.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

// Not NaN and sign bit clear (I9, X8): exactly the values whose bits, as an integer, are at most those of +Inf.
bool is_error_number(double value) { return std::bit_cast<std::uint64_t>(value) <= 0x7FF0000000000000ULL; }
bool is_error_number(float value) { return std::bit_cast<std::uint32_t>(value) <= 0x7F800000U; }

bool is_exactly_zero(const wire::Item& item) {
  return std::bit_cast<std::uint64_t>(item.sum_squares()) == 0 &&
         std::bit_cast<std::uint64_t>(item.sum_squared_error()) == 0 &&
         std::bit_cast<std::uint32_t>(item.max_abs_error()) == 0;
}

Error in_plane(Error error, std::size_t plane) {
  error.plane = static_cast<std::int32_t>(plane);
  return error;
}

Result<void> check_numbers(const ItemView& view) {
  const wire::Item& item = *view.item;
  CDNA_CHECK(item.row_dims() <= item.rank(), Code::malformed, "I7", "row_dims is larger than the rank");
  if (item.kind() != kAlias) {
    u128 product = 1;
    for (const std::uint64_t dim : view.dims) {
      product *= std::max<std::uint64_t>(dim, 1);
      CDNA_CHECK(product < kElementsEnd, Code::limit, "I8", "the product of the dimensions is 2^60 or more");
    }
  }
  const bool numbers = is_error_number(item.sum_squares()) && is_error_number(item.sum_squared_error()) &&
                       is_error_number(item.max_abs_error());
  CDNA_CHECK(numbers, Code::malformed, "I9", "an error number is NaN or negative");
  return {};
}

// The planes' half of I11, checked once the planes themselves are sound.
Result<void> check_content_plane(const ItemView& view) {
  const wire::Plane& plane = view.planes[0];
  const bool bytes = plane.role() == kData && static_cast<DType>(plane.dtype()) == DType::u8 && plane.bits() == 8 &&
                     plane.scope() == kRows && plane.row_entries() == view.dims[0] && plane.group() == 0 &&
                     plane.vector() == 1;
  CDNA_CHECK(bytes, Code::malformed, "I11", "the content of an asset or of the metadata must be one row of bytes");
  return {};
}

Result<void> check_geometry(const wire::Plane& plane, const wire::Plane& first, const MatrixView& view) {
  CDNA_CHECK(plane.row_entries() < kElementsEnd, Code::limit, "P4", "a row has 2^60 entries or more");
  CDNA_CHECK(decoded_bytes_of(plane, view) < kPlaneBytesEnd, Code::limit, "P4", "the plane has 2^63 bytes or more");
  const u128 blocks = plane.scope() == kPerBlock ? first.block_count() : block_count_of(plane, view);
  CDNA_CHECK(plane.block_count() == blocks, Code::malformed, "P5",
             "block_count is " + std::to_string(plane.block_count()) + ", which the geometry does not give");
  CDNA_CHECK(u128{plane.rows_per_block()} * row_bytes_of(plane) <= kBlockBytesMax, Code::limit, "P6",
             "blocks have over 16 MiB");
  if (&plane != &first && plane.scope() == kRows && plane.rows_per_block() > 0 && plane.rows_per_block() < view.rows) {
    CDNA_CHECK(plane.rows_per_block() % std::max(1U, first.rows_per_block()) == 0, Code::malformed, "P7",
               "rows_per_block is not a multiple of the first plane's");
  }
  return {};
}

Result<void> check_plane(const wire::Plane& plane, const wire::Plane& first, const MatrixView& view) {
  CDNA_CHECK(plane.reserved_a() == 0 && plane.reserved_b() == 0, Code::unsupported, "P1",
             "a reserved byte is not zero");
  CDNA_CHECK(plane.scope() <= kPerBlock, Code::unsupported, "P2",
             "scope " + std::to_string(plane.scope()) + " is not known");
  const bool free_length = plane.scope() == kPerBlock;
  const bool entries = plane.bits() >= 1 && plane.bits() <= 128 && (&plane != &first || plane.scope() == kRows) &&
                       (!free_length || (plane.bits() == 8 && plane.row_entries() == 0 && plane.rows_per_block() == 0));
  CDNA_CHECK(entries, Code::malformed, "P3", "bits, scope and row_entries do not fit together");
  CDNA_TRY(check_geometry(plane, first, view));
  const bool contiguous =
      plane.layout() != kContiguous ||
      (!free_length && plane.stored_length() == decoded_bytes_of(plane, view) && plane.codecs() <= 1);
  const bool no_blocks = plane.block_count() == 0;
  CDNA_CHECK(contiguous && (plane.codecs() == 0) == no_blocks && (!no_blocks || plane.stored_length() == 0),
             Code::malformed, "P8", "layout, stored_length and codecs do not fit together");
  return {};
}

}  // namespace

Result<void> PacketWalk::enter(const wire::Item& item) const {
  CDNA_CHECK(all_zero(bytes_in(item.reserved())), Code::unsupported, "I1", "a reserved byte is not zero");
  CDNA_CHECK(item.kind() <= kAlias || (item.kind() & kIgnorableKind) != 0, Code::unsupported, "I2",
             "item kind " + std::to_string(item.kind()) + " is not known and may not be ignored");
  CDNA_CHECK(item.rank() <= 8, Code::limit, "I5", "the rank is over 8");
  CDNA_CHECK(item.plane_count() <= 32, Code::limit, "I6", "the item has over 32 planes");
  const bool sums =
      item.first_dim() == first_dim_ && item.first_plane() == first_plane_ && item.text_offset() == text_offset_;
  CDNA_CHECK(sums, Code::malformed, "I3", "the item's dims, planes and text do not follow the previous item's");
  CDNA_CHECK(item.packet_offset() == packet_offset_, Code::malformed, "I3",
             "the packet does not begin where the previous one ends");
  return {};
}

Result<std::uint64_t> PacketWalk::check(const ItemView& view, std::uint64_t end, bool is_last) const {
  const wire::Item& item = *view.item;
  CDNA_TRY(check_numbers(view));
  CDNA_TRY(check_kind(view, is_last));
  std::uint64_t position = packet_offset_;
  CDNA_TRY(check_planes(view, end, position));
  if (item.kind() == kAsset || item.kind() == kMetadata) CDNA_TRY(check_content_plane(view));
  CDNA_TRY(check_packet(view, position));
  if (item.kind() == kTensor && supported(view)) CDNA_TRY(check_encoding(view));
  return position;
}

void PacketWalk::leave(const wire::Item& item, std::uint64_t packet_end) {
  packet_offset_ = packet_end;
  first_dim_ += item.rank();
  first_plane_ += item.plane_count();
  text_offset_ += std::uint64_t{item.name_length()} + item.type_length();
  required_features_ |= item.required_features();
  optional_features_ |= item.optional_features();
  has_metadata_ = has_metadata_ || item.kind() == kMetadata;
  kinds_.push_back(item.kind());
}

Result<void> PacketWalk::check_kind(const ItemView& view, bool is_last) const {
  const wire::Item& item = *view.item;
  const bool one_row_of_bytes = item.rank() == 1 && item.row_dims() == 0 &&
                                static_cast<DType>(item.dtype()) == DType::u8 && item.plane_count() == 1 &&
                                is_exactly_zero(item);
  switch (item.kind()) {
    case kTensor:
      CDNA_CHECK(item.plane_count() >= 1 && item.type_length() >= 1, Code::malformed, "I10",
                 "a tensor needs a plane and an encoding");
      return {};
    case kAsset:
      CDNA_CHECK(one_row_of_bytes, Code::malformed, "I11", "an asset must be one row of bytes");
      return {};
    case kMetadata:
      CDNA_CHECK(one_row_of_bytes && item.type_length() == 0, Code::malformed, "I11",
                 "the metadata must be one row of bytes");
      CDNA_CHECK(is_last, Code::malformed, "I12", "the metadata is not the last item");
      return {};
    case kAlias: {
      const bool bare = item.rank() == 1 && item.row_dims() == 0 && item.dtype() == 0 && item.plane_count() == 0 &&
                        item.type_length() == 0 && all_zero(bytes_in(item.source_digest())) && is_exactly_zero(item);
      CDNA_CHECK(bare && view.dims[0] < kinds_.size() && kinds_[view.dims[0]] == kTensor, Code::malformed, "I13",
                 "an alias must name an earlier tensor and have nothing of its own");
      return {};
    }
    default:
      return {};
  }
}

Result<void> PacketWalk::check_planes(const ItemView& view, std::uint64_t end, std::uint64_t& position) const {
  const MatrixView matrix = view.item->kind() == kAlias ? MatrixView{} : view.matrix();
  for (std::size_t i = 0; i < view.planes.size(); ++i) {
    const wire::Plane& plane = view.planes[i];
    if (auto result = check_plane(plane, view.planes[0], matrix); !result)
      return in_plane(std::move(result).error(), i);
    const bool empty = plane.stored_length() == 0;
    const std::uint64_t start = empty ? 0 : start_of(plane, matrix, position, alignment_);
    const bool placed = plane.offset() == start && (empty || (start <= end && plane.stored_length() <= end - start));
    if (!placed)
      return in_plane(fail(Code::malformed, "P9", "the plane is not where it must be, or reaches beyond the packets"),
                      i);
    if (!empty) position = start + plane.stored_length();
  }
  return {};
}

Result<void> PacketWalk::check_packet(const ItemView& view, std::uint64_t& position) const {
  const wire::Item& item = *view.item;
  std::uint64_t entries = 0;
  for (const wire::Plane& plane : view.planes) entries += plane.block_count();
  CDNA_CHECK(item.entry_count() == entries, Code::malformed, "I14", "entry_count is not the sum of the planes' blocks");
  position = align_up(position, kPacketAlignment);
  const bool indexed = entries == 0 ? item.index_offset() == 0 && digest_in(item.index_digest()) == sha256({})
                                    : item.index_offset() == position;
  CDNA_CHECK(indexed, Code::malformed, "I15", "the index is not where it must be");
  position += sizeof(wire::IndexEntry) * entries + record_bytes_of(item);
  return {};
}

}  // namespace cdna
