// A strict reader of JSON that reports value by value and keeps no document.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "cdna/error.hpp"

namespace cdna {

// Objects and arrays within one another. The `safetensors` package stops at the same depth (serde_json, less its root).
inline constexpr std::size_t kJsonDepthMax = 127;

struct JsonScalar {
  // `size`: an integer of 0 .. 2^64-1 without sign, fraction or exponent; `number`: any other number.
  enum class Kind : std::uint8_t { null, boolean, size, number, string };
  Kind kind = Kind::null;
  std::uint64_t size = 0;
  std::string text;
};

// What a document contains, in its order. An error stops the reading and becomes its result.
class JsonEvents {
 public:
  virtual ~JsonEvents() = default;
  virtual Result<void> begin_object() = 0;
  virtual Result<void> begin_array() = 0;
  virtual Result<void> end() = 0;  // Of the innermost object or array.
  virtual Result<void> key(std::string name) = 0;
  virtual Result<void> scalar(JsonScalar value) = 0;
};

// Reads one value and the white space around it (RFC 8259; no byte order mark, no duplicate key in any object).
// Errors: malformed, limit (depth), and those of `events`; offset is the byte of `text` where reading stopped. For a
// duplicate key of the outermost object, item is the key.
// Cost: memory of one string, and of the keys of the objects that are open.
Result<void> read_json(std::string_view text, JsonEvents& events);

// A foreign string for a message: in quotes, its end cut off when long.
std::string quote(std::string_view text);

}  // namespace cdna
