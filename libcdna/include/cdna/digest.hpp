// A SHA-256 digest as a value.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace cdna {

using Digest = std::array<std::byte, 32>;

// 64 lower-case hexadecimal digits.
std::string to_hex(const Digest& digest);

// The digest that 64 hexadecimal digits (either case) spell, or nothing.
std::optional<Digest> digest_of(std::string_view hex);

}  // namespace cdna
