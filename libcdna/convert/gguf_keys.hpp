// The key-values of a GGUF file to be written.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cdna/error.hpp"
#include "cdna/reader.hpp"

namespace cdna {

struct GgufKeys {
  std::uint64_t count = 0;
  std::string bytes;
};

// What the file to be says beside what its source said.
struct GgufKeyRequest {
  std::string architecture;                // general.architecture; "": that of the source.
  std::optional<std::uint32_t> file_type;  // general.file_type: which type most weights have.
  bool has_blocks = false;                 // general.quantization_version belongs there.
};

// The keys of the asset gguf-metadata.bin as they are, but for those that metadata gives another value ("gguf:KEY"),
// those of splitting, and general.alignment and file_type; then the other "gguf:" metadata. general.architecture comes
// from the request, these, or model_type of the asset config.json. Errors: bad_argument (no architecture anywhere; a
// value of the metadata that GGUF has no type for), malformed (the asset), limit (an asset over 1 GiB), those of
// reading.
Result<GgufKeys> gguf_keys(const Reader& reader, const GgufKeyRequest& request);

}  // namespace cdna
