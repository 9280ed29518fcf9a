// JSON as Python's json module reads and writes it: NaN and Infinity, integers of any length, the repr of floats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/error.hpp"

namespace cdna {

inline constexpr std::size_t kPythonJsonValuesMax = std::size_t{1} << 20;  // Of a document: about 100 MiB of them.

// A value and all within it.
struct PythonJson {
  enum class Kind : std::uint8_t { null, boolean, integer, real, string, array, object };
  Kind kind = Kind::null;
  bool boolean = false;
  double real = 0;
  std::string text;               // A string, lone surrogates as their three bytes; or the digits of an integer.
  std::vector<PythonJson> items;  // Of an array; the values of an object.
  std::vector<std::string> keys;  // Of an object, one for each item, unique.

  // The value of a key, or null: also where this is no object. Cost: linear.
  const PythonJson* find(std::string_view key) const;
  // An integer of 0 .. 2^64-1.
  std::optional<std::uint64_t> as_size() const;
  // An integer or a float. Integers beyond 2^64 are none.
  std::optional<double> as_number() const;
  // Of a key; nothing where it is absent or something else.
  std::optional<std::uint64_t> size_of(std::string_view key) const;
  std::optional<std::string> string_of(std::string_view key) const;
  std::optional<bool> boolean_of(std::string_view key) const;
  // The array of sizes of a key, such as a shape.
  std::optional<std::vector<std::uint64_t>> sizes_of(std::string_view key) const;
};

// Parses what json.loads() takes: of two equal keys the last counts. Errors: malformed (offset is the byte in `text`),
// limit (over 127 deep, over kPythonJsonValuesMax values).
Result<PythonJson> parse_python_json(std::string_view text);

enum class JsonSpaces : std::uint8_t { compact, standard };  // separators=(",", ":"), or (", ", ": ").

// json.dumps(value, sort_keys=True) without `left_out`, a key of the outermost object.
std::string dump_sorted(const PythonJson& value, JsonSpaces spaces, std::string_view left_out);

// repr() of a Python float: the shortest digits that give it again, "1e-06", "1e+16", "0.1", "2.0", "inf" as Infinity.
std::string python_float_text(double value);

}  // namespace cdna
