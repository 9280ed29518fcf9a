// Keys are copied byte for byte where they can be, and made anew where metadata say something else.
#include "libcdna/convert/gguf_keys.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "libcdna/import/gguf/key_values.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::string_view kPrefix = "gguf:";
constexpr const char* kArchitecture = "general.architecture";
constexpr const char* kFileType = "general.file_type";
constexpr const char* kQuantization = "general.quantization_version";
constexpr std::uint32_t kQuantizationVersion = 2;  // GGML_QNT_VERSION.
constexpr std::uint64_t kAssetHeadBytes = 12;      // Version (u32) and number of keys (u64).
constexpr std::uint64_t kAssetBytesMax = std::uint64_t{1} << 30;

template <class T>
void append(std::string& out, T value) {
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  out.append(bytes, sizeof value);
}

void append_type(std::string& out, GgufValueType type) { append(out, static_cast<std::uint32_t>(type)); }

void append_text(std::string& out, std::string_view text) {
  append(out, static_cast<std::uint64_t>(text.size()));
  out += text;
}

// Keys of the file that is written, or of the parts that it was.
bool is_left_out(std::string_view key) {
  return key == "general.alignment" || key == kFileType || key.starts_with("split.");
}

bool is_single(double value) { return value != value || static_cast<double>(static_cast<float>(value)) == value; }

// llama.cpp asks for u32 and f32 nearly everywhere, so that the narrow types are taken where they hold the value.
class ValueWriter {
 public:
  explicit ValueWriter(std::string& out) : out_(out) {}

  // Type and value. False: GGUF has no such value.
  bool operator()(std::monostate) { return false; }
  bool operator()(bool value) { return typed(GgufValueType::boolean, static_cast<std::uint8_t>(value)); }
  bool operator()(std::int64_t value) {
    if (value >= std::numeric_limits<std::int32_t>::min() && value <= std::numeric_limits<std::int32_t>::max())
      return typed(GgufValueType::i32, static_cast<std::int32_t>(value));
    return typed(GgufValueType::i64, value);
  }
  bool operator()(std::uint64_t value) {
    if (value <= std::numeric_limits<std::uint32_t>::max())
      return typed(GgufValueType::u32, static_cast<std::uint32_t>(value));
    return typed(GgufValueType::u64, value);
  }
  bool operator()(double value) {
    if (is_single(value)) return typed(GgufValueType::f32, static_cast<float>(value));
    return typed(GgufValueType::f64, value);
  }
  bool operator()(const std::string& value) { return text(value); }
  bool operator()(const std::vector<std::byte>& value) {
    return text({reinterpret_cast<const char*>(value.data()), value.size()});
  }
  bool operator()(const JsonText& value) {
    const nlohmann::json json = nlohmann::json::parse(value.text, nullptr, false);
    if (!json.is_array() || json.empty()) return false;
    append_type(out_, GgufValueType::array);
    const auto all = [&json](auto test) { return std::all_of(json.begin(), json.end(), test); };
    if (all([](const auto& element) { return element.is_string(); })) return texts(json);
    if (all([](const auto& element) { return element.is_boolean(); }))
      return numbers<bool>(GgufValueType::boolean, json);
    if (all([](const auto& element) { return is_i32(element); }))
      return numbers<std::int32_t>(GgufValueType::i32, json);
    if (all([](const auto& element) { return element.is_number_unsigned(); }))
      return numbers<std::uint64_t>(GgufValueType::u64, json);
    if (all([](const auto& element) { return is_i64(element); }))
      return numbers<std::int64_t>(GgufValueType::i64, json);
    if (!all([](const auto& element) { return element.is_number(); })) return false;
    if (all([](const auto& element) { return is_single(element.template get<double>()); }))
      return numbers<float>(GgufValueType::f32, json);
    return numbers<double>(GgufValueType::f64, json);
  }

 private:
  static bool is_i64(const nlohmann::json& value) {
    if (value.is_number_unsigned())
      return value.get<std::uint64_t>() <= std::uint64_t{std::numeric_limits<std::int64_t>::max()};
    return value.is_number_integer();
  }
  static bool is_i32(const nlohmann::json& value) {
    return is_i64(value) && value.get<std::int64_t>() >= std::numeric_limits<std::int32_t>::min() &&
           value.get<std::int64_t>() <= std::numeric_limits<std::int32_t>::max();
  }

  template <class T>
  bool typed(GgufValueType type, T value) {
    append_type(out_, type);
    append(out_, value);
    return true;
  }

  bool text(std::string_view value) {
    append_type(out_, GgufValueType::string);
    append_text(out_, value);
    return true;
  }

  void begin_array(GgufValueType type, const nlohmann::json& json) {
    append_type(out_, type);
    append(out_, static_cast<std::uint64_t>(json.size()));
  }

  bool texts(const nlohmann::json& json) {
    begin_array(GgufValueType::string, json);
    for (const nlohmann::json& element : json) append_text(out_, element.get_ref<const std::string&>());
    return true;
  }

  template <class T>
  bool numbers(GgufValueType type, const nlohmann::json& json) {
    begin_array(type, json);
    for (const nlohmann::json& element : json) append(out_, element.get<T>());
    return true;
  }

  std::string& out_;
};

// The asset that an import of GGUF left.
struct SourceKeys {
  std::vector<std::byte> bytes;
  std::vector<GgufKeyValue> entries;
};

Error in_asset(Error error, std::string_view name) {
  if (error.item.empty()) error.item = name;
  return error;
}

Result<std::vector<std::byte>> read_asset(const Asset& asset) {
  CDNA_CHECK(asset.size_bytes() <= kAssetBytesMax, Code::limit, "",
             "an asset of " + std::to_string(asset.size_bytes()) + " bytes; at most 1 GiB is read");
  std::vector<std::byte> bytes(static_cast<std::size_t>(asset.size_bytes()));
  CDNA_TRY(asset.read(0, bytes));
  return bytes;
}

Result<SourceKeys> parse_asset(std::vector<std::byte> bytes) {
  SourceKeys keys;
  keys.bytes = std::move(bytes);
  const std::unique_ptr<Source> source = memory_source(keys.bytes, false);
  GgufCursor cursor(*source, 0);
  const auto version = CDNA_TRY(cursor.number<std::uint32_t>("the version"));
  CDNA_CHECK(version == 2 || version == 3, Code::malformed, "", "keys of version " + std::to_string(version), 0);
  const auto count = CDNA_TRY(cursor.number<std::uint64_t>("the number of keys"));
  static_assert(kAssetHeadBytes == sizeof version + sizeof count);
  keys.entries = CDNA_TRY(read_gguf_key_values(cursor, count));
  CDNA_CHECK(cursor.left() == 0, Code::malformed, "", "bytes follow the last key", cursor.position());
  return keys;
}

Result<SourceKeys> source_keys(const Reader& reader) {
  constexpr std::string_view kName = "gguf-metadata.bin";
  const std::optional<Asset> asset = reader.find_asset(kName);
  if (!asset) return SourceKeys();
  auto bytes = read_asset(*asset);
  if (!bytes) return in_asset(std::move(bytes).error(), kName);
  auto keys = parse_asset(*std::move(bytes));
  if (!keys) return in_asset(std::move(keys).error(), kName);
  return keys;
}

// "model_type" of config.json, as transformers calls what llama.cpp calls the architecture; "" without one.
Result<std::string> model_type(const Reader& reader) {
  const std::optional<Asset> asset = reader.find_asset("config.json");
  if (!asset) return std::string();
  const std::vector<std::byte> bytes = CDNA_TRY(read_asset(*asset));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("model_type") || !json["model_type"].is_string()) return std::string();
  return json["model_type"].get<std::string>();
}

class KeyWriter {
 public:
  KeyWriter(const GgufKeyRequest& request, const Metadata& metadata) : request_(request), metadata_(metadata) {}

  Result<void> copy(const SourceKeys& source) {
    for (const GgufKeyValue& entry : source.entries) {
      if (is_left_out(entry.key) || (entry.key == kArchitecture && !request_.architecture.empty())) continue;
      const auto known = metadata_.find(std::string(kPrefix) + entry.key);
      if (known != metadata_.end() && entry.value != known->second) continue;
      begin(entry.key);
      out_.bytes.append(reinterpret_cast<const char*>(source.bytes.data() + entry.value_begin),
                        static_cast<std::size_t>(entry.end - entry.value_begin));
    }
    return {};
  }

  Result<void> add_metadata() {
    for (const auto& [name, value] : metadata_) {
      if (name.compare(0, kPrefix.size(), kPrefix) != 0) continue;
      const std::string key = name.substr(kPrefix.size());
      if (is_left_out(key) || written_.count(key) != 0) continue;
      if (key == kArchitecture && !request_.architecture.empty()) continue;
      CDNA_TRY(add(key, value));
    }
    return {};
  }

  Result<void> add(const std::string& key, const MetadataValue& value) {
    CDNA_CHECK(!key.empty() && key.size() <= kGgufKeyBytesMax, Code::bad_argument, "",
               "metadata gguf:" + key.substr(0, 100) + ": keys of GGUF have 1 to 65535 bytes");
    begin(key);
    CDNA_CHECK(std::visit(ValueWriter(out_.bytes), value), Code::bad_argument, "",
               "metadata gguf:" + key +
                   ": GGUF has no such value; it has numbers, booleans, strings, and arrays of one of them");
    return {};
  }

  bool has(const char* key) const { return written_.count(key) != 0; }
  GgufKeys finish() { return std::move(out_); }

 private:
  void begin(const std::string& key) {
    written_.insert(key);
    ++out_.count;
    append_text(out_.bytes, key);
  }

  const GgufKeyRequest& request_;
  const Metadata& metadata_;
  std::set<std::string> written_;
  GgufKeys out_;
};

Result<void> add_architecture(const Reader& reader, const GgufKeyRequest& request, KeyWriter& writer) {
  std::string architecture = request.architecture;
  if (architecture.empty()) architecture = CDNA_TRY(model_type(reader));
  CDNA_CHECK(!architecture.empty(), Code::bad_argument, "",
             "architecture: nothing in the file says which one the model has, and every GGUF file must (llama, qwen2, "
             "bert, ...)");
  return writer.add(kArchitecture, architecture);
}

}  // namespace

Result<GgufKeys> gguf_keys(const Reader& reader, const GgufKeyRequest& request) {
  const Metadata metadata = CDNA_TRY(reader.metadata());
  const SourceKeys source = CDNA_TRY(source_keys(reader));
  KeyWriter writer(request, metadata);
  CDNA_TRY(writer.copy(source));
  CDNA_TRY(writer.add_metadata());
  if (!writer.has(kArchitecture)) CDNA_TRY(add_architecture(reader, request, writer));
  if (request.file_type) CDNA_TRY(writer.add(kFileType, std::uint64_t{*request.file_type}));
  if (request.has_blocks && !writer.has(kQuantization))
    CDNA_TRY(writer.add(kQuantization, std::uint64_t{kQuantizationVersion}));
  return writer.finish();
}

}  // namespace cdna
