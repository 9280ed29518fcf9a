// What the JSON of a safetensors header says, field by field, before its numbers are compared with one another.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/import.hpp"

namespace cdna {

struct SafetensorsEntry {
  ModelTensor tensor;                      // Without size_bytes.
  std::array<std::uint64_t, 2> offsets{};  // Begin and end in the data area.
};

struct SafetensorsEntries {
  std::vector<SafetensorsEntry> entries;  // In the document's order.
  std::map<std::string, std::string> metadata;
};

// An error about a tensor.
Error fail_at(Code code, const std::string& tensor, std::string message);

// Parses {"__metadata__": {KEY: VALUE}, NAME: {"dtype", "shape", "data_offsets", ...}, ...}; in an error, item is the
// tensor and offset is in `json`. Errors: malformed, unsupported (dtype), limit.
Result<SafetensorsEntries> parse_safetensors_entries(std::string_view json);

}  // namespace cdna
