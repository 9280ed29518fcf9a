// What a source can be checked against, as convert records it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cdna/metadata.hpp"

namespace cdna {

// Key of the metadata: "none", "checksums" (of all data, against accidents only) or "payload only" (cryptographic
// digests, of a part).
inline constexpr const char* kSourceIntegrityKey = "cdna.source.integrity";

// Records it, and notes it with its reason, before all else.
inline void state_integrity(std::string_view integrity, std::string_view reason, Metadata& metadata,
                            std::vector<std::string>& notes) {
  metadata[kSourceIntegrityKey] = std::string(integrity);
  notes.insert(notes.begin(), "source integrity: " + std::string(integrity) + ": " + std::string(reason));
}

}  // namespace cdna
