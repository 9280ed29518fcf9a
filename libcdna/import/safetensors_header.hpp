// The header of a safetensors file: checked once and completely, so that nothing after it can be out of bounds.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/import.hpp"

namespace cdna {

// MAX_HEADER_SIZE of the `safetensors` package.
inline constexpr std::uint64_t kSafetensorsHeaderBytesMax = 100'000'000;
inline constexpr std::uint64_t kSafetensorsLengthBytes = 8;  // Of the length before the header.
inline constexpr std::string_view kSafetensorsMetadataKey = "__metadata__";

struct SafetensorsHeader {
  std::vector<ModelTensor> tensors;             // Sorted by name.
  std::vector<std::uint64_t> begins;            // Of each tensor's data, from the start of the data area.
  std::map<std::string, std::string> metadata;  // Keys as in the file.
};

// Parses a header for a data area of `data_bytes`; in an error, item is the tensor and offset is in the file.
// Accepts what the `safetensors` package 0.8 accepts, except for five things that the format's own description rules
// out or never mentions, and that no writer is known to emit:
// - white space before '{' (the description: MUST begin with '{', against files that are two formats at once);
// - a key twice in one object (the description: disallowed; the package takes the last and drops the others);
// - a tensor written as an array ["F32",[2],[0,8]], or a dtype as {"F32":null} (by-products of its JSON library);
// - more than 64 dimensions (no array of NumPy or PyTorch can have them; bounds the memory that a header can ask for);
// - more than 2^20 entries of __metadata__ (bounds memory too: the shortest take 12 bytes here and 250 in a map).
// It refuses what the package refuses, but for one number where it is ignored: 1.7976931348623158e308, which rounds to
// the largest double here and overflows there.
// Extra fields of a tensor are ignored, as there. Errors: malformed, unsupported (dtype), limit, truncated.
// Cost: O(n log n) in the header's length; memory a small multiple of it.
Result<SafetensorsHeader> parse_safetensors_header(std::string_view json, std::uint64_t data_bytes);

// Bytes of a tensor. Errors: limit (more bits than 2^64-1 before a dimension of 0 makes them none: the package
// multiplies from the left too), malformed (not whole bytes).
Result<std::uint64_t> safetensors_size_bytes(DType dtype, const std::vector<std::uint64_t>& shape);

}  // namespace cdna
