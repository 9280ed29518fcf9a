// Blocks of HXZ2 files: brotli, zstd and lz4 frames, bounded by the length that the index states.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "cdna/error.hpp"

namespace cdna {

enum class Hxz2Codec : std::uint8_t { brotli, zstd, lz4 };

// "brotli", "zstd", "lz4".
std::optional<Hxz2Codec> parse_hxz2_codec(std::string_view name);

// Appends the `size` bytes that one whole stream or frame decompresses to. Memory: twice what it really gives; of zstd,
// whose frames state it, `size`, which is at most 32768 times the stored bytes. Errors: malformed (damaged, or another
// length).
Result<void> decode_hxz2_block(Hxz2Codec codec, std::span<const std::byte> stored, std::uint64_t size,
                               std::vector<std::byte>& out);

}  // namespace cdna
