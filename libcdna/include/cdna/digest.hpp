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

// Which implementation hashes blocks: "shani", "avx512", "avx2" or "openssl"; the first of these that
// this machine has, or what the environment
// variable CDNA_SHA256 names. Where it names one that is not to be had, opening and writing files is bad_argument.
std::string_view sha256_implementation();

}  // namespace cdna
