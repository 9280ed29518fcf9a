// Blocks of HXZ2 files: brotli, zstd and lz4 frames, bounded by the length that the index states.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "cdna/error.hpp"

namespace cdna {

enum class Hxz2Codec : std::uint8_t { brotli, zstd, lz4 };

// "brotli", "zstd", "lz4".
std::optional<Hxz2Codec> parse_hxz2_codec(std::string_view name);

// Fills `out` from one whole stream or frame. Errors: malformed (damaged, or another length), no_memory.
Result<void> decode_hxz2_block(Hxz2Codec codec, std::span<const std::byte> stored, std::span<std::byte> out);

}  // namespace cdna
