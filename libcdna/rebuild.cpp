// Rebuilds a lost footer and tail from the records (spec/format.md, section 18).
#include <algorithm>
#include <array>
#include <vector>

#include "cdna/fsck.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/format/footer_builder.hpp"
#include "libcdna/format/names.hpp"
#include "libcdna/format/packet_walk.hpp"
#include "libcdna/format/record.hpp"
#include "libcdna/format/tail.hpp"
#include "libcdna/hash/sha256.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::size_t kCopyBytes = std::size_t{1} << 20;
constexpr std::size_t kNameBytesMax = 1024;  // N1.

Result<void> check_stop(const std::atomic<bool>* stop) {
  CDNA_CHECK(stop == nullptr || !stop->load(std::memory_order_relaxed), Code::cancelled, "", "stopped on request");
  return {};
}

// Finds the records one after the other, reading the file forward once.
class RecordScan {
 public:
  RecordScan(const Source& source, std::uint8_t align_log2, const std::atomic<bool>* stop)
      : source_(source),
        stop_(stop),
        walk_(align_log2),
        window_(std::min<std::uint64_t>(kCopyBytes, source.size_bytes())) {}

  Result<void> run() {
    while (!walk_.has_metadata() && CDNA_TRY(find_next())) {
    }
    return {};
  }

  const PacketWalk& walk() const { return walk_; }
  const FooterBuilder& footer() const { return footer_; }

 private:
  // Adds the next item, if there is one.
  Result<bool> find_next() {
    const std::uint64_t size = source_.size_bytes();
    for (std::uint64_t offset = walk_.packet_offset(); offset <= size && size - offset >= sizeof(wire::RecordFrame);
         offset += kPacketAlignment) {
      const std::span<const std::byte> frame = CDNA_TRY(bytes_at(offset, sizeof(wire::RecordFrame)));
      const auto length = record_bytes_at(frame, walk_.item_number(), offset);
      if (!length || *length > size - offset) continue;
      const auto record = parse_record(CDNA_TRY(bytes_at(offset, *length)));
      if (record && accept(*record, offset)) return true;
    }
    return false;
  }

  bool accept(const Record& record, std::uint64_t offset) {
    const ItemView view = record.view();
    if (!walk_.enter(record.item) || view.name.empty() || view.name.size() > kNameBytesMax || !check_type(view.type))
      return false;
    const auto packet_end = walk_.check(view, offset, true);
    if (!packet_end || *packet_end != offset + record.size_bytes)
      return false;  // Not where section 7.2 puts this record.
    footer_.add(view);
    walk_.leave(record.item, *packet_end);
    return true;
  }

  // Valid until the next call.
  Result<std::span<const std::byte>> bytes_at(std::uint64_t offset, std::size_t count) {
    if (offset < window_begin_ || offset + count > window_begin_ + window_size_) {
      CDNA_TRY(check_stop(stop_));
      window_begin_ = offset;
      window_size_ = static_cast<std::size_t>(std::min<std::uint64_t>(window_.size(), source_.size_bytes() - offset));
      CDNA_TRY(source_.read_at(offset, std::span(window_).first(window_size_)));
    }
    return std::span<const std::byte>(window_).subspan(offset - window_begin_, count);
  }

  const Source& source_;
  const std::atomic<bool>* stop_;
  PacketWalk walk_;
  FooterBuilder footer_;
  std::vector<std::byte> window_;
  std::uint64_t window_begin_ = 0;
  std::size_t window_size_ = 0;
};

Result<std::uint8_t> alignment_of(const Source& source) {
  std::array<std::byte, kHeadBytes> bytes{};
  const bool whole = source.size_bytes() >= bytes.size();
  if (whole) CDNA_TRY(source.read_at(0, bytes));
  const auto head = load<wire::Head>(bytes);
  const std::uint8_t align_log2 = head.align_log2();
  CDNA_CHECK(whole && align_log2 >= 6 && align_log2 <= 16 && text_of(bytes_of(make_head(align_log2))) == text_of(bytes),
             Code::corrupt, "H1", "the head is damaged: nothing can be rebuilt", 0);
  return align_log2;
}

Result<void> copy_source(const Source& source, std::uint64_t count, Sink& sink, const std::atomic<bool>* stop) {
  std::vector<std::byte> buffer(std::min<std::uint64_t>(kCopyBytes, count));
  for (std::uint64_t done = 0; done < count;) {
    CDNA_TRY(check_stop(stop));
    const std::span<std::byte> part = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), count - done));
    CDNA_TRY(source.read_at(done, part));
    CDNA_TRY(sink.write(part));
    done += part.size();
  }
  return {};
}

// A rebuilt file is checked before it gets its name: T10, T13, T14, and all of the footer.
Result<void> check_ends(const wire::Tail& tail, std::vector<std::byte> footer) {
  Limits limits;
  limits.footer_bytes_max = kFooterBytesHardMax;
  const FileEnds ends{tail.file_length(), bytes_of(kHeadMagic), bytes_of(tail)};
  auto parsed = parse_tail(ends, std::nullopt, limits);
  auto footer_checked = parsed ? Footer::parse(std::move(footer), tail) : Result<Footer>(std::move(parsed).error());
  if (footer_checked) return {};
  footer_checked.error().offset = kNoOffset;  // It was a place in the file that will not be.
  return std::move(footer_checked).error();
}

Result<RebuildReport> rebuild_file(const Source& source, Sink& sink, const std::atomic<bool>* stop) {
  const std::uint8_t align_log2 = CDNA_TRY(alignment_of(source));
  RecordScan scan(source, align_log2, stop);
  CDNA_TRY(scan.run());
  std::vector<std::byte> footer = scan.footer().build();
  TailFields fields;
  fields.required_features = scan.walk().required_features();
  fields.optional_features = scan.walk().optional_features();
  fields.footer_offset = scan.walk().packet_offset();
  fields.footer_bytes = footer.size();
  fields.item_count = scan.footer().item_count();
  fields.footer_digest = sha256(footer);
  fields.align_log2 = align_log2;
  const wire::Tail tail = make_tail(fields);
  CDNA_TRY(check_ends(tail, footer));
  CDNA_TRY(copy_source(source, fields.footer_offset, sink, stop));
  footer.resize(align_up(footer.size(), kPacketAlignment));
  CDNA_TRY(sink.write(footer));
  CDNA_TRY(sink.write(bytes_of(tail)));
  CDNA_TRY(sink.commit());
  return RebuildReport{scan.walk().has_metadata(), fields.item_count, fields.footer_offset, digest_in(tail.root())};
}

}  // namespace

Result<RebuildReport> rebuild(const Source& source, std::unique_ptr<Sink> sink, const std::atomic<bool>* stop) {
  return no_throw([&] {
    auto result = rebuild_file(source, *sink, stop);
    if (!result && result.error().file.empty()) result.error().file = source.name();
    return result;
  });
}

}  // namespace cdna
