// GGUF's blocks of quantised weights as codes of a codebook with factors and offsets, to the bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace cdna {

inline constexpr std::size_t kGgufBlockElementsMax = 256;  // QK_K of ggml.
inline constexpr std::size_t kGgufBlockGroupsMax = 16;

// What a block becomes. Of the arrays, block_elements, groups and (where there are offsets) groups entries are written.
struct UnpackedBlock {
  std::uint8_t codes[kGgufBlockElementsMax];
  float factors[kGgufBlockGroupsMax];
  float offsets[kGgufBlockGroupsMax];
};

// A type of blocks: value = codebook[code] * factor, rounded, + offset, rounded. Factors are products of ggml's scales,
// rounded to f32 where ggml rounds them, so that values have the bits of gguf.quants.dequantize() of the Python package
// `gguf` 0.19. Factors and offsets may be infinite or NaN, as the block's own scales may.
struct BlockCodes {
  std::uint32_t bits = 0;   // Per code.
  std::uint32_t group = 0;  // Columns that share a factor: 16, 32, 64 or 128.
  bool has_offsets = false;
  std::span<const float> codebook;  // [2^bits], ascending. Static storage.
  // Reads one block of the type's size.
  void (*unpack)(const std::byte* block, UnpackedBlock& out) = nullptr;
};

extern const BlockCodes kQ4_0Codes;
extern const BlockCodes kQ4_1Codes;
extern const BlockCodes kQ5_0Codes;
extern const BlockCodes kQ5_1Codes;
extern const BlockCodes kQ8_0Codes;
extern const BlockCodes kQ2KCodes;
extern const BlockCodes kQ3KCodes;
extern const BlockCodes kQ4KCodes;
extern const BlockCodes kQ5KCodes;
extern const BlockCodes kQ6KCodes;
extern const BlockCodes kIq4NlCodes;
extern const BlockCodes kIq4XsCodes;
extern const BlockCodes kTq1_0Codes;
extern const BlockCodes kTq2_0Codes;
extern const BlockCodes kMxfp4Codes;
extern const BlockCodes kNvfp4Codes;
// Types 36 and 37 of helix-substrate's fork: 128 columns with a binary16 scale and offset, and 8 or 6 bits each.
extern const BlockCodes kHxqAffineG128Codes;
extern const BlockCodes kHxqAffine6Codes;

}  // namespace cdna
