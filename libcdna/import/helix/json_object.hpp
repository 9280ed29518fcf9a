// The JSON objects in helix-substrate's headers and manifests: read strictly, their fields by type.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/metadata.hpp"

namespace cdna {

// Keys in the document's order.
using JsonObject = nlohmann::ordered_json;

// Parses a document whose root is an object (see read_json()). Errors: malformed, limit. Memory: some 40 times the
// text.
Result<JsonObject> parse_json_object(std::string_view text);

// Fields of an object; nothing where there is none. Errors: malformed (of another type), with the key.
Result<std::optional<std::string>> text_field(const JsonObject& object, const char* key);
Result<std::optional<std::uint64_t>> size_field(const JsonObject& object, const char* key);
Result<std::optional<std::vector<std::uint64_t>>> shape_field(const JsonObject& object, const char* key);

// Adds the fields as "PREFIX:KEY": texts, truth values and integers as such, all else as JSON.
void add_metadata(const JsonObject& object, std::string_view prefix, std::initializer_list<std::string_view> left_out,
                  Metadata& metadata);

}  // namespace cdna
