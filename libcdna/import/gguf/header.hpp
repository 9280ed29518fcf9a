// The header of a GGUF file: checked once and completely, so that nothing after it can be out of bounds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/source.hpp"
#include "libcdna/import/gguf/ggml_types.hpp"
#include "libcdna/import/gguf/key_values.hpp"

namespace cdna {

inline constexpr std::uint64_t kGgufTensorsMax = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kGgufNameBytesMax = 1024;  // Of items of a CDNA file; ggml has 63.
inline constexpr std::uint32_t kGgufRankMax = 4;          // GGML_MAX_DIMS.
inline constexpr std::uint64_t kGgufAlignment = 32;       // GGUF_DEFAULT_ALIGNMENT.
inline constexpr std::uint64_t kGgufHeadBytes = 24;       // Magic, version and two counts.

struct GgufTensor {
  std::string name;                  // Raw bytes, not empty.
  std::vector<std::uint64_t> shape;  // Row-major: GGUF's dimensions from the last to the first.
  const GgmlType* type = nullptr;
  std::uint64_t elements = 0;
  std::uint64_t begin = 0;  // In the file.
  std::uint64_t size_bytes = 0;
};

struct GgufHeader {
  std::uint32_t version = 0;             // 2 or 3.
  std::vector<GgufKeyValue> key_values;  // In the file's order; from byte kGgufHeadBytes on.
  std::uint64_t key_values_end = kGgufHeadBytes;
  std::vector<GgufTensor> tensors;  // Sorted by name.

  // Null: no such key.
  const GgufKeyValue* find(std::string_view key) const;
};

// Reads and checks the header. In an error item is the tensor and offset is in the file. Refused beside what cannot be
// read: version 1, files of big-endian machines, general.alignment that is not a u32 and a power of two, names of over
// 1024 bytes, more than four dimensions, rows that are not whole blocks, 2^63 elements or more, data that are not
// aligned, that overlap or lie beyond the end of the file. Errors: malformed, unsupported (version, byte order, a type
// that is not known), limit, truncated, io.
// Cost: one pass over the header, and O(n log n) in tensors and keys; memory a small multiple of its bytes.
Result<GgufHeader> read_gguf_header(const Source& source, GgufDialect dialect);

}  // namespace cdna
