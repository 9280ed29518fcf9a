// JSON as it is written, from the inside out. No document is held: destroying one of nlohmann's asks for memory.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace cdna {

// What is not UTF-8 is replaced.
std::string json_string(std::string_view text);

// The shortest text that gives the value back, with a point or an exponent: "8.0". Requires: finite.
std::string json_number(double value);

// A list of strings.
std::string json_strings(std::span<const std::string> texts);

// A list of values that are JSON already.
std::string json_list(std::span<const std::string> values);

// An object, member by member.
class JsonObject {
 public:
  // `value` is JSON already.
  void add(std::string_view key, std::string_view value);
  std::string text() const { return "{" + members_ + "}"; }

 private:
  std::string members_;
};

}  // namespace cdna
