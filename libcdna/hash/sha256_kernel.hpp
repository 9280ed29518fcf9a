// Which implementation hashes many messages at once: the fastest that this machine has, or the one that CDNA_SHA256
// names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "cdna/digest.hpp"
#include "cdna/error.hpp"

namespace cdna {

enum class Sha256Kernel : std::uint8_t { openssl, avx2, avx512, shani };

inline constexpr Sha256Kernel kSha256Kernels[] = {Sha256Kernel::openssl, Sha256Kernel::avx2, Sha256Kernel::avx512,
                                                  Sha256Kernel::shani};

std::string_view name_of(Sha256Kernel kernel);
// Whether the CPU, the operating system and this build have it.
bool is_available(Sha256Kernel kernel);

// The one in use. Chosen at the first call; what CDNA_SHA256 says after that changes nothing.
Sha256Kernel sha256_kernel();
// Errors: bad_argument where CDNA_SHA256 names a kernel that does not exist or is not available here.
Result<void> check_sha256_kernel();

// SHA-256 of messages.size() messages of `bytes` bytes each. Requires: is_available(kernel), digests.size() ==
// messages.size(). Allocates nothing.
void sha256_many(Sha256Kernel kernel, std::span<const unsigned char* const> messages, std::size_t bytes,
                 std::span<Digest> digests);

// For fewer messages a kernel is slower than OpenSSL one by one: its idle lanes take their time all the same.
std::size_t least_count(Sha256Kernel kernel);

}  // namespace cdna
