// Sizes as people write them: "6GB", "1.5 GiB", "123456".
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace cdna::tools {

// Bytes: a decimal number, then nothing, B, KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024), in
// any case, perhaps after a space. Nothing for all else, for 0, and from 2^53 bytes on.
std::optional<std::uint64_t> parse_size(std::string_view text);

}  // namespace cdna::tools
