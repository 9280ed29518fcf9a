// The ids of block codecs and filters.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace cdna {

enum class Codec : std::uint8_t { raw = 0, zstd = 1, brotli = 2 };

// "raw", "zstd", "brotli". Static storage.
std::string_view name_of(Codec codec);
std::optional<Codec> codec_of(std::string_view name);

// What is done to a block before its codec (spec/format.md, 12.1).
enum class Filter : std::uint8_t { none = 0, byte_planes = 1 };

}  // namespace cdna
