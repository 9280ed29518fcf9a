// Rules M2..M5, and their writer.
#include "libcdna/format/metadata.hpp"

#include <bit>
#include <optional>
#include <string>

#include "libcdna/format/flat_vectors.hpp"
#include "libcdna/format/utf8.hpp"
#include "libcdna/format/wire.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

// Values are the type ids of the format and, up to json, the indices of MetadataValue.
enum Type : std::uint8_t {
  kNull = 0,
  kBool = 1,
  kI64 = 2,
  kU64 = 3,
  kF64 = 4,
  kString = 5,
  kBytes = 6,
  kJson = 7,
  kInlineFirst = 128
};

constexpr std::array<std::uint32_t, 2> kMetadataElementBytes{sizeof(wire::KeyValue), 1};
const FlatLayout kMetadataLayout{"CDNM", kMetadataElementBytes};

bool is_pooled(std::uint8_t type) { return type >= kString && type < kInlineFirst; }

std::optional<MetadataValue> value_of(const wire::KeyValue& entry, std::string_view pooled) {
  switch (entry.type()) {
    case kNull:
      return MetadataValue(std::monostate{});
    case kBool:
      return MetadataValue(entry.value() != 0);
    case kI64:
      return MetadataValue(std::bit_cast<std::int64_t>(entry.value()));
    case kU64:
      return MetadataValue(entry.value());
    case kF64:
      return MetadataValue(std::bit_cast<double>(entry.value()));
    case kString:
      return MetadataValue(std::string(pooled));
    case kBytes: {
      const auto bytes = bytes_of(pooled);
      return MetadataValue(std::vector<std::byte>(bytes.begin(), bytes.end()));
    }
    case kJson:
      return MetadataValue(JsonText{std::string(pooled)});
    default:
      return std::nullopt;
  }
}

Result<void> check_value(const wire::KeyValue& entry, std::string_view pooled, std::uint64_t at) {
  const bool fits = (entry.type() != kNull || entry.value() == 0) && (entry.type() != kBool || entry.value() <= 1);
  CDNA_CHECK(fits, Code::malformed, "M5", "a null or bool has another value", at);
  const bool text = entry.type() == kString || entry.type() == kJson;
  CDNA_CHECK(!text || is_utf8(pooled), Code::malformed, "M5", "a string is not valid UTF-8", at);
  return {};
}

struct Slices {
  std::string_view key;
  std::string_view pooled;
};

// Checks M3 for one entry and moves `used` on.
Result<Slices> take_text(const wire::KeyValue& entry, std::string_view text, std::uint64_t& used, std::uint64_t at) {
  const std::uint64_t pooled_bytes = is_pooled(entry.type()) ? entry.value() : 0;
  const std::uint64_t left = text.size() - used;
  const bool tiled =
      entry.text_offset() == used && entry.key_length() <= left && pooled_bytes <= left - entry.key_length();
  CDNA_CHECK(tiled, Code::malformed, "M3", "keys and values do not tile the text", at);
  const Slices slices{text.substr(used, entry.key_length()), text.substr(used + entry.key_length(), pooled_bytes)};
  used += entry.key_length() + pooled_bytes;
  return slices;
}

void add_inline(wire::KeyValue& entry, const MetadataValue& value) {
  if (const auto* boolean = std::get_if<bool>(&value)) entry.mutate_value(*boolean ? 1 : 0);
  if (const auto* integer = std::get_if<std::int64_t>(&value))
    entry.mutate_value(std::bit_cast<std::uint64_t>(*integer));
  if (const auto* integer = std::get_if<std::uint64_t>(&value)) entry.mutate_value(*integer);
  if (const auto* number = std::get_if<double>(&value)) entry.mutate_value(std::bit_cast<std::uint64_t>(*number));
}

std::string_view pooled_of(const MetadataValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  if (const auto* bytes = std::get_if<std::vector<std::byte>>(&value)) return text_of(*bytes);
  if (const auto* json = std::get_if<JsonText>(&value)) return json->text;
  return {};
}

}  // namespace

Result<Metadata> parse_metadata(std::span<const std::byte> bytes) {
  const FlatVectors found = parse_flat(kMetadataLayout, bytes);
  CDNA_CHECK(found.fault == FlatFault::none, Code::malformed, "M2", "the metadata is not laid out as it must be",
             found.fault_offset);
  const std::string_view text = text_of(bytes.subspan(found.vectors[1].offset, found.vectors[1].count));
  const auto place = [&found](std::uint64_t i) { return found.vectors[0].offset + i * sizeof(wire::KeyValue); };
  std::vector<wire::KeyValue> entries;
  for (std::uint64_t i = 0; i < found.vectors[0].count; ++i) {
    entries.push_back(load<wire::KeyValue>(bytes.subspan(place(i))));
    CDNA_CHECK(all_zero(bytes_in(entries.back().reserved())), Code::malformed, "M2", "a reserved byte is not zero",
               place(i));
  }
  std::vector<Slices> slices;
  std::uint64_t used = 0;
  for (std::size_t i = 0; i < entries.size(); ++i)
    slices.push_back(CDNA_TRY(take_text(entries[i], text, used, place(i))));
  CDNA_CHECK(used == text.size(), Code::malformed, "M3", "text is longer than the keys and values",
             found.vectors[1].offset);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const bool key = !slices[i].key.empty() && is_utf8(slices[i].key) && (i == 0 || slices[i - 1].key < slices[i].key);
    CDNA_CHECK(key, Code::malformed, "M4", "keys are not strictly ascending UTF-8", place(i));
  }
  Metadata metadata;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    CDNA_TRY(check_value(entries[i], slices[i].pooled, place(i)));
    if (auto value = value_of(entries[i], slices[i].pooled))
      metadata.emplace_hint(metadata.end(), slices[i].key, std::move(*value));
  }
  return metadata;
}

Result<void> check_entry(const std::string& key, const MetadataValue& value) {
  return no_throw([&]() -> Result<void> {
    const bool is_text = value.index() == kString || value.index() == kJson;
    CDNA_CHECK(!key.empty() && is_utf8(key) && (!is_text || is_utf8(pooled_of(value))), Code::bad_argument, "",
               "metadata '" + key + "': the key is empty, or it or its text is not UTF-8");
    return {};
  });
}

Result<std::vector<std::byte>> append_metadata(const Metadata& metadata) {
  std::vector<wire::KeyValue> entries;
  std::string text;
  for (const auto& [key, value] : metadata) {
    CDNA_TRY(check_entry(key, value));
    const std::string_view pooled = pooled_of(value);
    CDNA_CHECK(key.size() + pooled.size() <= kMetadataBytesMax && text.size() <= kMetadataBytesMax, Code::limit, "M1",
               "the metadata is over 64 MiB");
    wire::KeyValue entry;
    entry.mutate_text_offset(static_cast<std::uint32_t>(text.size()));
    entry.mutate_key_length(static_cast<std::uint32_t>(key.size()));
    entry.mutate_type(static_cast<std::uint8_t>(value.index()));
    if (is_pooled(static_cast<std::uint8_t>(value.index()))) {
      entry.mutate_value(pooled.size());
    } else {
      add_inline(entry, value);
    }
    entries.push_back(entry);
    text += key;
    text += pooled;
  }
  const std::array<std::span<const std::byte>, 2> contents{std::as_bytes(std::span(entries)),
                                                           bytes_of(std::string_view(text))};
  std::vector<std::byte> out = append_flat(kMetadataLayout, contents);
  CDNA_CHECK(out.size() <= kMetadataBytesMax, Code::limit, "M1", "the metadata is over 64 MiB");
  return out;
}

}  // namespace cdna
