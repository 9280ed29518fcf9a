// Typed key-values of a file (spec/format.md, section 14).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "cdna/error.hpp"

namespace cdna {

// JSON text, kept as it is: the library neither parses nor checks it beyond UTF-8.
struct JsonText {
  std::string text;
  bool operator==(const JsonText&) const = default;
};

using MetadataValue = std::variant<std::monostate, bool, std::int64_t, std::uint64_t, double, std::string,
                                   std::vector<std::byte>, JsonText>;

// Keys are UTF-8 and not empty; std::map keeps them in the order of the format, bytewise.
using Metadata = std::map<std::string, MetadataValue>;

// Whether a file can hold the entry. Errors: bad_argument (an empty key; a key, string or JSON text that is not UTF-8).
Result<void> check_entry(const std::string& key, const MetadataValue& value);

}  // namespace cdna
