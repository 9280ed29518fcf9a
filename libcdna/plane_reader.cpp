// PlaneReader: File::stored_block, then the codec, then the padding rule.
#include "libcdna/plane_reader.hpp"

#include <algorithm>

#include "libcdna/format/index.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

// E4: the unused high bits of each row's last byte are zero. Only pieces that end a row can have any.
Result<void> check_padding(const wire::Plane& plane, const BlockPlace& place, std::span<const std::byte> bytes) {
  const std::uint64_t used_bits = place.entry_count * plane.bits() % 8;
  if (used_bits == 0 || place.row_count == 0) return {};
  const std::uint64_t row_bytes = bytes.size() / place.row_count;
  const auto unused = static_cast<std::byte>(0xFFU << used_bits & 0xFFU);
  for (std::uint64_t row = 1; row <= place.row_count; ++row) {
    CDNA_CHECK((bytes[row * row_bytes - 1] & unused) == std::byte{0}, Code::malformed, "E4",
               "row " + std::to_string(place.row_begin + row - 1) + " has padding bits that are not zero");
  }
  return {};
}

// Requires: the entry's filter is known.
BlockCoding coding_of(const wire::Plane& plane, const wire::IndexEntry& entry) {
  if (entry.filter() != 0) return BlockCoding::byte_planes(plane.bits() / 8);
  return static_cast<Codec>(entry.codec());
}

}  // namespace

Result<PlaneReader> PlaneReader::create(const File& file, std::uint32_t item, std::uint32_t plane, std::uint64_t end) {
  PlaneReader reader(file, CDNA_TRY(file.touch(item, plane)));
  const PlaneBlocks& blocks = reader.plane_.blocks();
  if (!file.zero_copy()) reader.stored_.resize(blocks.stored_bytes_max);
  reader.decoded_.resize(blocks.decoded_bytes_max);
  reader.end_ = end;
  return reader;
}

Result<std::span<const std::byte>> PlaneReader::fetch(std::uint64_t block) {
  if (block == current_block_) return current_;
  current_block_ = kNone;
  auto result = decode(block);
  if (!result) {
    Error error = std::move(result).error();
    if (error.plane >= 0) return error;  // Located by File already.
    error.plane = static_cast<std::int32_t>(plane_.number);
    error.block = static_cast<std::int64_t>(block);
    error.offset = plane_.offset_of(block);
    return file_->placed(std::move(error), plane_.item);
  }
  current_block_ = block;
  current_ = *result;
  return current_;
}

Result<void> PlaneReader::run_codec(const BlockCoding& coding, std::span<const std::byte> stored,
                                    std::span<std::byte> out) {
  File::Counters& counters = file_->counters();
  const Stopwatch decoding(counters.decode_ns);
  ++counters.blocks_decoded;
  auto result = decoder_.decode(coding, stored, out);
  if (result) counters.bytes_decoded += out.size();
  return result;
}

Result<std::span<const std::byte>> PlaneReader::decode(std::uint64_t block) {
  if (block + 1 < end_) file_->prefetch(plane_, block + 1);
  std::span<const std::byte> bytes = CDNA_TRY(file_->stored_block(plane_, block, stored_));
  const wire::IndexEntry& entry = plane_.entry(block);
  CDNA_CHECK(entry.filter() == 0 || in_byte_planes(file_->footer().item(plane_.item), *plane_.plane, entry),
             Code::unsupported, "U7", "the block's filter is not known");
  in_place_ = entry.codec() == 0 && file_->zero_copy();
  if (entry.codec() != 0) {
    const std::span<std::byte> out = std::span(decoded_).first(entry.decoded_length());
    CDNA_TRY(run_codec(coding_of(*plane_.plane, entry), bytes, out));
    bytes = out;
  }
  if (plane_.plane->scope() != kPerBlock)
    CDNA_TRY(check_padding(*plane_.plane, block_place(*plane_.plane, matrix_, block), bytes));
  return bytes;
}

}  // namespace cdna
