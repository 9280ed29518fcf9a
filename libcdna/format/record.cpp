// Writer and parser of records.
#include "libcdna/format/record.hpp"

#include <algorithm>

#include "libcdna/hash/sha256.hpp"

namespace cdna {
namespace {

constexpr std::size_t kDigestOffset = 32;  // The digest covers all of the record but itself.
constexpr std::size_t kFrameBytes = sizeof(wire::RecordFrame);

Digest digest_of_record(std::span<const std::byte> record) {
  Sha256 hasher;
  hasher.update(record.first(kDigestOffset));
  hasher.update(record.subspan(kFrameBytes));
  return hasher.finish();
}

}  // namespace

std::vector<std::byte> append_record(const ItemView& view, std::uint32_t item_number, std::uint64_t offset) {
  const std::uint64_t size = record_bytes_of(*view.item);
  wire::RecordFrame frame;
  set_bytes(frame.mutable_magic(), kRecordMagic);
  frame.mutate_length(static_cast<std::uint32_t>(size));
  frame.mutate_item_number(item_number);
  frame.mutate_offset(offset);
  std::vector<std::byte> out(size);
  std::size_t used = 0;
  const auto put = [&out, &used](std::span<const std::byte> bytes) {
    if (!bytes.empty()) std::memcpy(out.data() + used, bytes.data(), bytes.size());
    used += bytes.size();
  };
  put(bytes_of(frame));
  put(bytes_of(*view.item));
  put(std::as_bytes(view.dims));
  put(std::as_bytes(view.planes));
  put(bytes_of(view.name));
  put(bytes_of(view.type));
  const Digest digest = digest_of_record(out);
  std::copy(digest.begin(), digest.end(), out.begin() + kDigestOffset);
  return out;
}

std::optional<std::uint32_t> record_bytes_at(std::span<const std::byte> bytes, std::uint32_t item_number,
                                             std::uint64_t offset) {
  const auto frame = load<wire::RecordFrame>(bytes);
  const bool fits = equals(frame.magic(), kRecordMagic) && frame.item_number() == item_number &&
                    frame.offset() == offset && frame.reserved() == 0 && frame.length() % kPacketAlignment == 0 &&
                    frame.length() <= kRecordBytesMax && frame.length() >= kFrameBytes + sizeof(wire::Item);
  if (!fits) return std::nullopt;
  return frame.length();
}

std::optional<Record> parse_record(std::span<const std::byte> bytes) {
  const auto frame = load<wire::RecordFrame>(bytes);
  if (digest_of_record(bytes) != digest_in(frame.digest())) return std::nullopt;
  Record record;
  record.size_bytes = bytes.size();
  record.item = load<wire::Item>(bytes.subspan(kFrameBytes));
  if (record_bytes_of(record.item) != bytes.size()) return std::nullopt;
  std::span<const std::byte> rest = bytes.subspan(kFrameBytes + sizeof(wire::Item));
  const auto take = [&rest]<class T>(std::vector<T>& out, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) out.push_back(load<T>(rest.subspan(i * sizeof(T))));
    rest = rest.subspan(count * sizeof(T));
  };
  take(record.dims, record.item.rank());
  take(record.planes, record.item.plane_count());
  const std::size_t text_bytes = std::size_t{record.item.name_length()} + record.item.type_length();
  record.text = text_of(rest.first(text_bytes));
  if (!all_zero(rest.subspan(text_bytes))) return std::nullopt;
  return record;
}

ItemView Record::view() const {
  const std::string_view all = text;
  return {&item, dims, planes, all.substr(0, item.name_length()), all.substr(item.name_length())};
}

}  // namespace cdna
