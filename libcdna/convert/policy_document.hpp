// The JSON of a policy file in memory, as far as rules can be made of: strings, lists and objects.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cdna/error.hpp"

namespace cdna {

inline constexpr int kPolicyDepthMax = 8;

// A value of a document. Unlike nlohmann's, it asks for no memory when it is destroyed.
struct PolicyValue {
  enum class Kind : std::uint8_t { other, string, list, object };
  Kind kind = Kind::other;
  std::string text;                 // Of a string.
  std::vector<std::string> keys;    // Of an object, in the order of the file, each once.
  std::vector<PolicyValue> values;  // Of a list or an object.

  // Null where there is none.
  const PolicyValue* find(std::string_view key) const;
};

// Errors: malformed (not JSON, or a key twice in one object), limit (values nested more than kPolicyDepthMax deep).
Result<PolicyValue> parse_policy_document(std::string_view text);

// A text of the file for messages: in quotes, its end cut off when long.
std::string shown_in_policy(std::string_view text);

}  // namespace cdna
