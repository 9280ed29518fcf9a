// Values as Q8_0 blocks of ggml: 32 codes of 8 bits with a binary16 scale.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "cdna/error.hpp"

namespace cdna {

inline constexpr std::size_t kQ8_0Elements = 32;
inline constexpr std::size_t kQ8_0Bytes = 34;

// Blocks with the bits of quantize_row_q8_0_ref() of ggml, and of gguf.quants.quantize() of the Python package.
// Requires: values.size() is a multiple of 32, out.size() that of the blocks. Errors: bad_argument (a value that is not
// finite, or a block of values too large for its scale); the message
// numbers values from `begin` on.
Result<void> quantize_q8_0(std::span<const float> values, std::uint64_t begin, std::span<std::byte> out);

}  // namespace cdna
