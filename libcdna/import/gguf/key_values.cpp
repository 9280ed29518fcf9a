// Walks over key-values without keeping the long ones; nothing is allocated that the file does not hold.
#include "libcdna/import/gguf/key_values.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "libcdna/format/utf8.hpp"
#include "libcdna/import/json.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kEntryBytesMin = 8 + 1 + 4 + 1;  // A key of one byte and a value of one.
constexpr const char* kWhat = "a metadata value";

// The least that a value takes; 0: no such type.
std::uint64_t least_bytes(GgufValueType type) {
  switch (type) {
    case GgufValueType::u8:
    case GgufValueType::i8:
    case GgufValueType::boolean:
      return 1;
    case GgufValueType::u16:
    case GgufValueType::i16:
      return 2;
    case GgufValueType::u32:
    case GgufValueType::i32:
    case GgufValueType::f32:
      return 4;
    case GgufValueType::u64:
    case GgufValueType::i64:
    case GgufValueType::f64:
    case GgufValueType::string:
      return 8;
    case GgufValueType::array:
      return 12;
  }
  return 0;
}

class ValueReader {
 public:
  explicit ValueReader(GgufCursor& cursor) : cursor_(cursor) {}

  Result<GgufValueType> type() {
    const std::uint64_t at = cursor_.position();
    const auto type = static_cast<GgufValueType>(CDNA_TRY(cursor_.number<std::uint32_t>(kWhat)));
    CDNA_CHECK(
        least_bytes(type) != 0, Code::malformed, "",
        "a metadata value of type " + std::to_string(static_cast<std::uint32_t>(type)) + "; the types are 0 to 12", at);
    return type;
  }

  // A value that is none is one that is not kept.
  Result<std::optional<MetadataValue>> value(GgufValueType type) {
    if (type == GgufValueType::string) return text();
    if (type == GgufValueType::array) return array();
    return std::optional(CDNA_TRY(scalar(type)));
  }

 private:
  template <class Kept, class Stored>
  Result<MetadataValue> number() {
    return MetadataValue(static_cast<Kept>(CDNA_TRY(cursor_.number<Stored>(kWhat))));
  }

  Result<MetadataValue> boolean() {
    const std::uint64_t at = cursor_.position();
    const auto byte = CDNA_TRY(cursor_.number<std::uint8_t>(kWhat));
    CDNA_CHECK(byte <= 1, Code::malformed, "", "a boolean of " + std::to_string(byte), at);
    return MetadataValue(byte == 1);
  }

  Result<MetadataValue> scalar(GgufValueType type) {
    switch (type) {
      case GgufValueType::u8:
        return number<std::uint64_t, std::uint8_t>();
      case GgufValueType::i8:
        return number<std::int64_t, std::int8_t>();
      case GgufValueType::u16:
        return number<std::uint64_t, std::uint16_t>();
      case GgufValueType::i16:
        return number<std::int64_t, std::int16_t>();
      case GgufValueType::u32:
        return number<std::uint64_t, std::uint32_t>();
      case GgufValueType::i32:
        return number<std::int64_t, std::int32_t>();
      case GgufValueType::u64:
        return number<std::uint64_t, std::uint64_t>();
      case GgufValueType::i64:
        return number<std::int64_t, std::int64_t>();
      case GgufValueType::f32:
        return number<double, float>();
      case GgufValueType::f64:
        return number<double, double>();
      default:
        return boolean();
    }
  }

  Result<std::optional<MetadataValue>> text() {
    const std::uint64_t at = cursor_.position();
    const auto size = CDNA_TRY(cursor_.number<std::uint64_t>("a string"));
    CDNA_CHECK(size <= cursor_.left(), Code::truncated, "",
               "a string of " + std::to_string(size) + " bytes, where the file has " + std::to_string(cursor_.left()) +
                   " more",
               at);
    if (size > kGgufKeptTextBytes) {
      CDNA_TRY(cursor_.skip(size, kWhat));
      return std::optional<MetadataValue>();
    }
    std::string text = CDNA_TRY(cursor_.bytes(size, "a string"));
    if (is_utf8(text)) return std::optional<MetadataValue>(std::move(text));
    const auto bytes = std::as_bytes(std::span(text));
    return std::optional<MetadataValue>(std::vector<std::byte>(bytes.begin(), bytes.end()));
  }

  struct ArrayHead {
    GgufValueType type;
    std::uint64_t count;
  };

  Result<ArrayHead> array_head() {
    const std::uint64_t at = cursor_.position();
    const GgufValueType type = CDNA_TRY(this->type());
    const auto count = CDNA_TRY(cursor_.number<std::uint64_t>("an array"));
    CDNA_CHECK(count <= cursor_.left() / least_bytes(type), Code::truncated, "",
               "an array of " + std::to_string(count) + " elements, where the file has " +
                   std::to_string(cursor_.left()) + " more bytes",
               at);
    return ArrayHead{type, count};
  }

  Result<std::optional<MetadataValue>> array() {
    const ArrayHead head = CDNA_TRY(array_head());
    if (head.count > kGgufKeptElements || head.type == GgufValueType::array) {
      CDNA_TRY(skip_elements(head, 1));
      return std::optional<MetadataValue>();
    }
    nlohmann::json elements = nlohmann::json::array();
    bool is_kept = true;
    for (std::uint64_t i = 0; i < head.count; ++i) {
      const std::optional<MetadataValue> element = CDNA_TRY(value(head.type));
      is_kept = is_kept && element && append(*element, elements);
    }
    if (!is_kept) return std::optional<MetadataValue>();
    return std::optional<MetadataValue>(JsonText{elements.dump()});
  }

  // False for what JSON has not.
  static bool append(const MetadataValue& value, nlohmann::json& out) {
    if (const auto* const flag = std::get_if<bool>(&value)) {
      out.push_back(*flag);
    } else if (const auto* const signed_number = std::get_if<std::int64_t>(&value)) {
      out.push_back(*signed_number);
    } else if (const auto* const unsigned_number = std::get_if<std::uint64_t>(&value)) {
      out.push_back(*unsigned_number);
    } else if (const auto* const real = std::get_if<double>(&value)) {
      if (!std::isfinite(*real)) return false;
      out.push_back(*real);
    } else if (const auto* const text = std::get_if<std::string>(&value)) {
      out.push_back(*text);
    } else {
      return false;
    }
    return true;
  }

  Result<void> skip_elements(const ArrayHead& head, unsigned depth) {
    CDNA_CHECK(depth <= kGgufArrayDepthMax, Code::limit, "",
               "arrays nested more than " + std::to_string(kGgufArrayDepthMax) + " deep", cursor_.position());
    if (head.type == GgufValueType::array) {
      for (std::uint64_t i = 0; i < head.count; ++i) {
        const ArrayHead inner = CDNA_TRY(array_head());
        CDNA_TRY(skip_elements(inner, depth + 1));
      }
      return {};
    }
    if (head.type != GgufValueType::string) return cursor_.skip(head.count * least_bytes(head.type), "an array");
    for (std::uint64_t i = 0; i < head.count; ++i) {
      const auto size = CDNA_TRY(cursor_.number<std::uint64_t>("a string"));
      CDNA_TRY(cursor_.skip(size, "a string"));
    }
    return {};
  }

  GgufCursor& cursor_;
};

Result<GgufKeyValue> read_key_value(GgufCursor& cursor) {
  GgufKeyValue entry;
  entry.begin = cursor.position();
  entry.key = CDNA_TRY(cursor.string(kGgufKeyBytesMax, "a metadata key"));
  CDNA_CHECK(!entry.key.empty(), Code::malformed, "", "a metadata key is empty", entry.begin);
  CDNA_CHECK(is_utf8(entry.key), Code::malformed, "", "a metadata key is not UTF-8", entry.begin);
  entry.value_begin = cursor.position();
  ValueReader reader(cursor);
  auto type = reader.type();
  if (type) {
    entry.type = *type;
    auto value = reader.value(*type);
    if (value) {
      entry.value = *std::move(value);
      entry.end = cursor.position();
      return entry;
    }
    type = std::move(value).error();
  }
  type.error().message = "metadata " + quote(entry.key) + ": " + type.error().message;
  return std::move(type).error();
}

Result<void> check_unique(const std::vector<GgufKeyValue>& entries) {
  std::vector<const GgufKeyValue*> sorted;
  for (const GgufKeyValue& entry : entries) sorted.push_back(&entry);
  std::sort(sorted.begin(), sorted.end(),
            [](const auto* a, const auto* b) { return a->key != b->key ? a->key < b->key : a->begin < b->begin; });
  const auto twin =
      std::adjacent_find(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->key == b->key; });
  if (twin == sorted.end()) return {};
  return fail(Code::malformed, "", "the metadata key " + quote((*twin)->key) + " occurs twice",
              (*std::next(twin))->begin);
}

}  // namespace

Result<std::vector<GgufKeyValue>> read_gguf_key_values(GgufCursor& cursor, std::uint64_t count) {
  const std::uint64_t at = cursor.position();
  CDNA_CHECK(
      count <= cursor.left() / kEntryBytesMin, Code::truncated, "",
      std::to_string(count) + " metadata keys, where the file has " + std::to_string(cursor.left()) + " more bytes",
      at);
  CDNA_CHECK(count <= kGgufKeysMax, Code::limit, "",
             std::to_string(count) + " metadata keys; at most " + std::to_string(kGgufKeysMax) + " are allowed", at);
  std::vector<GgufKeyValue> entries;
  for (std::uint64_t i = 0; i < count; ++i) entries.push_back(CDNA_TRY(read_key_value(cursor)));
  CDNA_TRY(check_unique(entries));
  return entries;
}

}  // namespace cdna
