// The key-values of a GGUF file: where each lies, and what the small ones say.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/metadata.hpp"
#include "libcdna/import/gguf/cursor.hpp"

namespace cdna {

// enum gguf_metadata_value_type.
enum class GgufValueType : std::uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};

inline constexpr std::uint64_t kGgufKeysMax = 65536;        // Files have less than a hundred.
inline constexpr std::uint64_t kGgufKeyBytesMax = 65535;    // "At most 2^16-1 bytes": the format's description.
inline constexpr std::uint64_t kGgufKeptTextBytes = 65536;  // Longer strings are not kept as values.
inline constexpr std::uint64_t kGgufKeptElements = 64;      // Nor are longer arrays.
inline constexpr unsigned kGgufArrayDepthMax = 8;           // ggml has none within another.

struct GgufKeyValue {
  std::string key;                // UTF-8, not empty.
  std::uint64_t begin = 0;        // Of the entry: its key's length.
  std::uint64_t value_begin = 0;  // Of the value's type.
  std::uint64_t end = 0;
  GgufValueType type = GgufValueType::u8;
  // Integers, floats and booleans; strings of up to kGgufKeptTextBytes (bytes where they are not UTF-8); arrays of up
  // to kGgufKeptElements of these, as JSON text that gives their elements back. Nothing: too long, or no such value.
  std::optional<MetadataValue> value;
};

// Reads `count` entries. Errors: malformed (a type, a boolean, a key, a key that was there), limit (count, nesting, the
// length of a key), truncated, io; offset is that of the source.
Result<std::vector<GgufKeyValue>> read_gguf_key_values(GgufCursor& cursor, std::uint64_t count);

}  // namespace cdna
