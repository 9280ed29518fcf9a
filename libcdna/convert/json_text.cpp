// Strings and numbers as nlohmann-json writes them; what holds them together is written here.
#include "libcdna/convert/json_text.hpp"

#include <nlohmann/json.hpp>
#include <vector>

namespace cdna {
namespace {

using nlohmann::json;

// Requires: a value whose destruction asks for no memory, neither an object nor a list.
std::string text_of(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

}  // namespace

std::string json_string(std::string_view text) { return text_of(json(text)); }

std::string json_number(double value) { return text_of(json(value)); }

std::string json_strings(std::span<const std::string> texts) {
  std::vector<std::string> values;
  for (const std::string& text : texts) values.push_back(json_string(text));
  return json_list(values);
}

std::string json_list(std::span<const std::string> values) {
  std::string list;
  for (const std::string& value : values) list += (list.empty() ? "" : ",") + value;
  return "[" + list + "]";
}

void JsonObject::add(std::string_view key, std::string_view value) {
  if (!members_.empty()) members_ += ',';
  members_ += json_string(key);
  members_ += ':';
  members_ += value;
}

}  // namespace cdna
