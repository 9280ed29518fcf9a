// Rules T1..T14 and H1, one after the other.
#include "libcdna/format/tail.hpp"

#include <algorithm>
#include <cstddef>
#include <string>

#include "libcdna/hash/sha256.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::size_t kRootedBytes = 216;  // All fields before the root.

Digest root_of(const wire::Tail& tail) { return sha256(bytes_of(tail).first(kRootedBytes)); }

bool begins_with(std::span<const std::byte> bytes, const std::array<std::uint8_t, 8>& magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

std::string bits_text(std::uint64_t mask) {
  std::string text;
  for (int bit = 0; bit < 64; ++bit) {
    if ((mask >> bit & 1) == 0) continue;
    if (!text.empty()) text += ", ";
    text += std::to_string(bit);
  }
  return text;
}

Result<void> check_shape(const FileEnds& ends) {
  const bool ends_as_cdna = ends.file_bytes >= kFileBytesMin && begins_with(ends.last.last(8), kTailMagic);
  if (ends_as_cdna) return {};
  CDNA_CHECK(begins_with(ends.first, kHeadMagic), Code::not_cdna, "T1",
             "not a CDNA file: neither its beginning nor its end is one", 0);
  return fail(Code::truncated, "T2",
              "begins as a CDNA file but its end is missing (cdna-fsck --rebuild may recover it)", ends.file_bytes);
}

Result<void> check_constants(const wire::Tail& tail, std::uint64_t at) {
  CDNA_CHECK(equals(tail.tag(), kRootTag), Code::unsupported, "T5", "the tail has an unknown tag", at);
  CDNA_CHECK(tail.version() == kVersion, Code::unsupported, "T6",
             "format version " + std::to_string(tail.version()) + " is not 3", at + 60);
  CDNA_CHECK(tail.hash_suite() == kHashSuite, Code::unsupported, "T7",
             "hash suite " + std::to_string(tail.hash_suite()) + " is not known", at + 97);
  CDNA_CHECK(tail.align_log2() >= 6 && tail.align_log2() <= 16, Code::malformed, "T8",
             "align_log2 " + std::to_string(tail.align_log2()) + " is not in 6..16", at + 96);
  CDNA_CHECK(all_zero(bytes_in(tail.reserved())), Code::unsupported, "T9", "a reserved byte of the tail is not zero",
             at + 98);
  const std::uint64_t unknown = tail.required_features() & ~kRequiredFeaturesKnown;
  CDNA_CHECK(unknown == 0, Code::unsupported, "T10",
             "requires features that this version does not know: bits " + bits_text(unknown), at + 16);
  return {};
}

Result<void> check_places(const wire::Tail& tail, const FileEnds& ends, const Limits& limits, std::uint64_t at) {
  CDNA_CHECK(tail.file_length() == ends.file_bytes && ends.file_bytes < kPlaneBytesEnd, Code::truncated, "T11",
             "the file has " + std::to_string(ends.file_bytes) + " bytes and its tail says " +
                 std::to_string(tail.file_length()),
             at + 32);
  const std::uint64_t body_end = ends.file_bytes - kTailBytes;
  const std::uint64_t offset = tail.footer_offset();
  const std::uint64_t length = tail.footer_length();
  const bool placed = offset % 64 == 0 && offset >= kHeadBytes && offset <= body_end && length >= kFooterBytesMin &&
                      length % 8 == 0 && length <= body_end - offset && align_up(offset + length, 64) == body_end;
  CDNA_CHECK(placed, Code::malformed, "T12", "the footer is not where it must be", at + 40);
  CDNA_CHECK(length <= std::min(limits.footer_bytes_max, kFooterBytesHardMax), Code::limit, "T13",
             "the footer has " + std::to_string(length) + " bytes, over the limit", at + 48);
  CDNA_CHECK(tail.item_count() <= std::min(limits.items_max, kItemsHardMax), Code::limit, "T14",
             "the file has " + std::to_string(tail.item_count()) + " items, over the limit", at + 56);
  return {};
}

}  // namespace

Result<wire::Tail> parse_tail(const FileEnds& ends, const std::optional<Digest>& expected_root, const Limits& limits) {
  CDNA_TRY(check_shape(ends));
  const std::uint64_t at = ends.file_bytes - kTailBytes;
  const auto tail = load<wire::Tail>(ends.last);
  const Digest root = root_of(tail);
  CDNA_CHECK(digest_in(tail.root()) == root, Code::corrupt, "T3", "the tail does not match its root", at);
  CDNA_CHECK(!expected_root || *expected_root == root, Code::root_mismatch, "T4",
             "the root is " + to_hex(root) + ", not the expected " + (expected_root ? to_hex(*expected_root) : ""),
             at + 216);
  CDNA_TRY(check_constants(tail, at));
  CDNA_TRY(check_places(tail, ends, limits, at));
  return tail;
}

Result<void> check_head(std::span<const std::byte> head, const wire::Tail& tail) {
  const wire::Head expected = make_head(tail.align_log2());
  const std::span<const std::byte> expected_bytes = bytes_of(expected);
  const auto difference = std::mismatch(head.begin(), head.end(), expected_bytes.begin());
  CDNA_CHECK(difference.first == head.end(), Code::corrupt, "H1", "the head is not the one that the tail implies",
             static_cast<std::uint64_t>(difference.first - head.begin()));
  return {};
}

wire::Head make_head(std::uint8_t align_log2) {
  wire::Head head(kVersion, align_log2, kHashSuite);
  set_bytes(head.mutable_magic(), kHeadMagic);
  return head;
}

wire::Tail make_tail(const TailFields& fields) {
  wire::Tail tail;
  set_bytes(tail.mutable_tag(), kRootTag);
  tail.mutate_required_features(fields.required_features);
  tail.mutate_optional_features(fields.optional_features);
  tail.mutate_file_length(align_up(fields.footer_offset + fields.footer_bytes, kPacketAlignment) + kTailBytes);
  tail.mutate_footer_offset(fields.footer_offset);
  tail.mutate_footer_length(fields.footer_bytes);
  tail.mutate_item_count(fields.item_count);
  tail.mutate_version(kVersion);
  set_bytes(tail.mutable_footer_digest(), fields.footer_digest);
  tail.mutate_align_log2(fields.align_log2);
  tail.mutate_hash_suite(kHashSuite);
  set_bytes(tail.mutable_root(), root_of(tail));
  set_bytes(tail.mutable_magic(), kTailMagic);
  return tail;
}

}  // namespace cdna
