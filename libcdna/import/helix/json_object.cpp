// nlohmann's document behind the strict reader: what is accepted there holds no surprise here.
#include "libcdna/import/helix/json_object.hpp"

#include <algorithm>
#include <utility>

#include "libcdna/import/json.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

// Looks at the syntax alone.
class NoEvents final : public JsonEvents {
 public:
  Result<void> begin_object() override { return {}; }
  Result<void> begin_array() override { return {}; }
  Result<void> end() override { return {}; }
  Result<void> key(std::string) override { return {}; }
  Result<void> scalar(JsonScalar) override { return {}; }
};

Error wrong_type(const char* key, const char* wanted) {
  return fail(Code::malformed, "", std::string("\"") + key + "\" is not " + wanted);
}

MetadataValue value_of(const JsonObject& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_unsigned()) return value.get<std::uint64_t>();
  if (value.is_number_integer()) return value.get<std::int64_t>();
  return JsonText{value.dump()};
}

}  // namespace

Result<JsonObject> parse_json_object(std::string_view text) {
  NoEvents events;
  CDNA_TRY(read_json(text, events));
  JsonObject object = JsonObject::parse(text.begin(), text.end(), nullptr, false);
  CDNA_CHECK(object.is_object(), Code::malformed, "", "not a JSON object", 0);
  return object;
}

Result<std::optional<std::string>> text_field(const JsonObject& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return std::optional<std::string>();
  if (!found->is_string()) return wrong_type(key, "a string");
  return std::optional(found->get<std::string>());
}

Result<std::optional<std::uint64_t>> size_field(const JsonObject& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return std::optional<std::uint64_t>();
  if (!found->is_number_unsigned()) return wrong_type(key, "a size");
  return std::optional(found->get<std::uint64_t>());
}

Result<std::optional<std::vector<std::uint64_t>>> shape_field(const JsonObject& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return std::optional<std::vector<std::uint64_t>>();
  const auto is_size = [](const JsonObject& value) { return value.is_number_unsigned(); };
  if (!found->is_array() || !std::all_of(found->begin(), found->end(), is_size))
    return wrong_type(key, "a list of sizes");
  return std::optional(found->get<std::vector<std::uint64_t>>());
}

void add_metadata(const JsonObject& object, std::string_view prefix, std::initializer_list<std::string_view> left_out,
                  Metadata& metadata) {
  for (const auto& field : object.items()) {
    if (std::find(left_out.begin(), left_out.end(), field.key()) == left_out.end())
      metadata[std::string(prefix) + ":" + field.key()] = value_of(field.value());
  }
}

}  // namespace cdna
