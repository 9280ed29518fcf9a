// One function per type of blocks; the layouts are those of ggml-common.h, the arithmetic is that of ggml-quants.c.
#include "libcdna/import/gguf/block_codes.hpp"

#include <array>
#include <bit>
#include <cstring>

#include "libcdna/format/float_bits.hpp"

namespace cdna {
namespace {

constexpr std::size_t kSuperBlock = 256;

template <std::size_t kCount>
constexpr std::array<float, kCount> integers_from(int first) {
  std::array<float, kCount> out{};
  for (std::size_t i = 0; i < kCount; ++i) out[i] = static_cast<float>(first + static_cast<int>(i));
  return out;
}

constexpr auto kUnsigned2 = integers_from<4>(0);
constexpr auto kUnsigned4 = integers_from<16>(0);
constexpr auto kUnsigned5 = integers_from<32>(0);
constexpr auto kUnsigned6 = integers_from<64>(0);
constexpr auto kUnsigned8 = integers_from<256>(0);
constexpr auto kSigned3 = integers_from<8>(-4);
constexpr auto kSigned4 = integers_from<16>(-8);
constexpr auto kSigned5 = integers_from<32>(-16);
constexpr auto kSigned6 = integers_from<64>(-32);
constexpr auto kSigned8 = integers_from<256>(-128);
constexpr auto kTernary = integers_from<4>(-1);  // The fourth code is 2 in TQ2_0 and does not occur in TQ1_0.
// kvalues_iq4nl of ggml.
constexpr std::array<float, 16> kIq4{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
// Twice the values of E2M1, as kvalues_mxfp4 of ggml, in ascending order. Its -0 is 0 there: the table holds integers.
constexpr std::array<float, 16> kFp4{-12, -8, -6, -4, -3, -2, -1, 0, 0, 1, 2, 3, 4, 6, 8, 12};

std::uint8_t byte_at(const std::byte* bytes, std::size_t i) { return std::to_integer<std::uint8_t>(bytes[i]); }

float half_at(const std::byte* bytes) {
  return f32_of_f16(static_cast<std::uint16_t>(byte_at(bytes, 0) | byte_at(bytes, 1) << 8));
}

std::uint8_t u8(unsigned value) { return static_cast<std::uint8_t>(value); }

// Both halves of `count` bytes: the low ones first, then the high ones.
void unpack_nibbles(const std::byte* bytes, std::size_t count, std::uint8_t* codes) {
  for (std::size_t i = 0; i < count; ++i) {
    codes[i] = byte_at(bytes, i) & 15U;
    codes[i + count] = u8(byte_at(bytes, i) >> 4U);
  }
}

// The four pairs of bits of 32 bytes, the lowest of all first; 64 bytes make 256 codes.
void unpack_pairs(const std::byte* bytes, std::uint8_t* codes) {
  for (std::size_t i = 0; i < kSuperBlock; ++i)
    codes[i] = byte_at(bytes, i / 128 * 32 + i % 32) >> (i % 128 / 32 * 2) & 3U;
}

void unpack_q4_0(const std::byte* block, UnpackedBlock& out) {
  out.factors[0] = half_at(block);
  unpack_nibbles(block + 2, 16, out.codes);
}

void unpack_q4_1(const std::byte* block, UnpackedBlock& out) {
  out.factors[0] = half_at(block);
  out.offsets[0] = half_at(block + 2);
  unpack_nibbles(block + 4, 16, out.codes);
}

// Four bytes of fifth bits, then the nibbles.
void unpack_five_bits(const std::byte* bytes, std::uint8_t* codes) {
  unpack_nibbles(bytes + 4, 16, codes);
  for (std::size_t i = 0; i < 32; ++i) codes[i] |= u8((byte_at(bytes, i / 8) >> (i % 8) & 1U) << 4);
}

void unpack_q5_0(const std::byte* block, UnpackedBlock& out) {
  out.factors[0] = half_at(block);
  unpack_five_bits(block + 2, out.codes);
}

void unpack_q5_1(const std::byte* block, UnpackedBlock& out) {
  out.factors[0] = half_at(block);
  out.offsets[0] = half_at(block + 2);
  unpack_five_bits(block + 4, out.codes);
}

void unpack_q8_0(const std::byte* block, UnpackedBlock& out) {
  out.factors[0] = half_at(block);
  for (std::size_t i = 0; i < 32; ++i) out.codes[i] = byte_at(block, 2 + i) ^ 0x80U;  // q + 128.
}

// block_q2_K: 16 scales with minima, 64 bytes of codes, d, dmin.
void unpack_q2_k(const std::byte* block, UnpackedBlock& out) {
  const float d = half_at(block + 80);
  const float dmin = half_at(block + 82);
  for (std::size_t i = 0; i < 16; ++i) {
    out.factors[i] = d * static_cast<float>(byte_at(block, i) & 15U);
    out.offsets[i] = -(dmin * static_cast<float>(byte_at(block, i) >> 4U));
  }
  unpack_pairs(block + 16, out.codes);
}

// block_q3_K: 32 bytes of third bits, 64 bytes of codes, 12 bytes of scales, d.
void unpack_q3_k(const std::byte* block, UnpackedBlock& out) {
  const std::byte* const scales = block + 96;
  const float d = half_at(block + 108);
  for (std::size_t i = 0; i < 16; ++i) {
    const unsigned low = byte_at(scales, i % 8) >> (i / 8 * 4) & 15U;
    const unsigned high = byte_at(scales, 8 + i % 4) >> (i / 4 * 2) & 3U;
    out.factors[i] = d * static_cast<float>(static_cast<int>(low | high << 4) - 32);
  }
  unpack_pairs(block + 32, out.codes);
  // A bit that is not set takes 4 off: code 0 is -4.
  for (std::size_t i = 0; i < kSuperBlock; ++i) out.codes[i] |= u8((byte_at(block, i % 32) >> (i / 32) & 1U) << 2);
}

// d, dmin and the 12 bytes of eight scales and eight minima of 6 bits that Q4_K and Q5_K begin with: get_scale_min_k4
// of ggml.
void unpack_k4_scales(const std::byte* block, UnpackedBlock& out) {
  const float d = half_at(block);
  const float dmin = half_at(block + 2);
  const std::byte* const scales = block + 4;
  for (std::size_t i = 0; i < 8; ++i) {
    const unsigned of_scale = byte_at(scales, i % 4);
    const unsigned of_minimum = byte_at(scales, 4 + i % 4);
    const unsigned more = byte_at(scales, 8 + i % 4);
    const unsigned scale = i < 4 ? of_scale & 63U : (more & 15U) | (of_scale >> 2 & 48U);
    const unsigned minimum = i < 4 ? of_minimum & 63U : more >> 4 | (of_minimum >> 2 & 48U);
    out.factors[i] = d * static_cast<float>(scale);
    out.offsets[i] = -(dmin * static_cast<float>(minimum));
  }
}

void unpack_q4_k(const std::byte* block, UnpackedBlock& out) {
  unpack_k4_scales(block, out);
  for (std::size_t i = 0; i < 4; ++i) unpack_nibbles(block + 16 + 32 * i, 32, out.codes + 64 * i);
}

// block_q5_K: scales, 32 bytes of fifth bits, 128 bytes of nibbles.
void unpack_q5_k(const std::byte* block, UnpackedBlock& out) {
  unpack_k4_scales(block, out);
  for (std::size_t i = 0; i < 4; ++i) unpack_nibbles(block + 48 + 32 * i, 32, out.codes + 64 * i);
  for (std::size_t i = 0; i < kSuperBlock; ++i) out.codes[i] |= u8((byte_at(block, 16 + i % 32) >> (i / 32) & 1U) << 4);
}

// block_q6_K: 128 bytes of nibbles, 64 bytes of upper pairs, 16 signed scales, d.
void unpack_q6_k(const std::byte* block, UnpackedBlock& out) {
  const float d = half_at(block + 208);
  for (std::size_t i = 0; i < 16; ++i)
    out.factors[i] = d * static_cast<float>(static_cast<std::int8_t>(byte_at(block, 192 + i)));
  std::uint8_t upper[kSuperBlock];
  unpack_pairs(block + 128, upper);
  for (std::size_t i = 0; i < 2; ++i) unpack_nibbles(block + 64 * i, 64, out.codes + 128 * i);
  for (std::size_t i = 0; i < kSuperBlock; ++i) out.codes[i] |= u8(static_cast<unsigned>(upper[i]) << 4);
}

// block_iq4_xs: d, 16 bits of upper parts of scales, 4 bytes of lower parts, 128 bytes of nibbles.
void unpack_iq4_xs(const std::byte* block, UnpackedBlock& out) {
  const float d = half_at(block);
  for (std::size_t i = 0; i < 8; ++i) {
    const unsigned low = byte_at(block, 4 + i / 2) >> (i % 2 * 4) & 15U;
    const unsigned high = byte_at(block, 2 + i / 4) >> (i % 4 * 2) & 3U;
    out.factors[i] = d * static_cast<float>(static_cast<int>(low | high << 4) - 32);
    unpack_nibbles(block + 8 + 16 * i, 16, out.codes + 32 * i);
  }
}

// `count` bytes of base 3: the digits at 3^-1 of all of them, then those at 3^-2, and so on.
void unpack_ternary(const std::byte* bytes, std::size_t count, std::size_t digits, std::uint8_t* codes) {
  constexpr std::array<unsigned, 5> kPowers{1, 3, 9, 27, 81};
  for (std::size_t digit = 0; digit < digits; ++digit) {
    for (std::size_t i = 0; i < count; ++i)
      codes[digit * count + i] = u8(u8(byte_at(bytes, i) * kPowers[digit]) * 3U >> 8);
  }
}

// block_tq1_0: 48 bytes of five digits, 4 bytes of four, d.
void unpack_tq1_0(const std::byte* block, UnpackedBlock& out) {
  out.factors[0] = out.factors[1] = half_at(block + 52);
  unpack_ternary(block, 32, 5, out.codes);
  unpack_ternary(block + 32, 16, 5, out.codes + 160);
  unpack_ternary(block + 48, 4, 4, out.codes + 240);
}

void unpack_tq2_0(const std::byte* block, UnpackedBlock& out) {
  out.factors[0] = out.factors[1] = half_at(block + 64);
  unpack_pairs(block, out.codes);
}

// E2M1 has a sign bit; kFp4 ascends.
void sort_fp4(std::uint8_t* codes, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) codes[i] = codes[i] < 8 ? u8(codes[i] + 8U) : u8(15U - codes[i]);
}

// Half of 2^(exponent - 127): ggml_e8m0_to_fp32_half.
float half_of_e8m0(std::uint32_t exponent) {
  return std::bit_cast<float>(exponent < 2 ? 0x00200000U << exponent : (exponent - 1) << 23);
}

void unpack_mxfp4(const std::byte* block, UnpackedBlock& out) {
  out.factors[0] = half_of_e8m0(byte_at(block, 0));
  unpack_nibbles(block + 1, 16, out.codes);
  sort_fp4(out.codes, 32);
}

// Half of an unsigned E4M3, as ggml_ue4m3_to_fp32: its NaN is 0, the eighth bit is ignored but for that.
float half_of_ue4m3(std::uint32_t bits) {
  if (bits == 0 || bits == 0x7F) return 0;
  const std::uint32_t exponent = bits >> 3 & 15U;
  const std::uint32_t mantissa = bits & 7U;
  if (exponent == 0) return static_cast<float>(mantissa) * 0x1p-10F;
  return std::bit_cast<float>((exponent + 119) << 23 | mantissa << 20);
}

// block_nvfp4: four scales, then for each of them 8 bytes of 16 codes.
void unpack_nvfp4(const std::byte* block, UnpackedBlock& out) {
  for (std::size_t i = 0; i < 4; ++i) {
    out.factors[i] = half_of_ue4m3(byte_at(block, i));
    unpack_nibbles(block + 4 + 8 * i, 8, out.codes + 16 * i);
  }
  sort_fp4(out.codes, 64);
}

void unpack_hxq_affine_g128(const std::byte* block, UnpackedBlock& out) {
  out.factors[0] = half_at(block);
  out.offsets[0] = half_at(block + 2);
  std::memcpy(out.codes, block + 4, 128);
}

// 32 times three bytes with four codes, the lowest bits first.
void unpack_hxq_affine_6(const std::byte* block, UnpackedBlock& out) {
  out.factors[0] = half_at(block);
  out.offsets[0] = half_at(block + 2);
  for (std::size_t i = 0; i < 32; ++i) {
    const std::byte* const bytes = block + 4 + 3 * i;
    const unsigned word = byte_at(bytes, 0) | static_cast<unsigned>(byte_at(bytes, 1)) << 8 |
                          static_cast<unsigned>(byte_at(bytes, 2)) << 16;
    for (std::size_t j = 0; j < 4; ++j) out.codes[4 * i + j] = u8(word >> (6 * j) & 63U);
  }
}

}  // namespace

constexpr BlockCodes kQ4_0Codes{4, 32, false, kSigned4, unpack_q4_0};
constexpr BlockCodes kQ4_1Codes{4, 32, true, kUnsigned4, unpack_q4_1};
constexpr BlockCodes kQ5_0Codes{5, 32, false, kSigned5, unpack_q5_0};
constexpr BlockCodes kQ5_1Codes{5, 32, true, kUnsigned5, unpack_q5_1};
constexpr BlockCodes kQ8_0Codes{8, 32, false, kSigned8, unpack_q8_0};
constexpr BlockCodes kQ2KCodes{2, 16, true, kUnsigned2, unpack_q2_k};
constexpr BlockCodes kQ3KCodes{3, 16, false, kSigned3, unpack_q3_k};
constexpr BlockCodes kQ4KCodes{4, 32, true, kUnsigned4, unpack_q4_k};
constexpr BlockCodes kQ5KCodes{5, 32, true, kUnsigned5, unpack_q5_k};
constexpr BlockCodes kQ6KCodes{6, 16, false, kSigned6, unpack_q6_k};
constexpr BlockCodes kIq4NlCodes{4, 32, false, kIq4, unpack_q4_0};
constexpr BlockCodes kIq4XsCodes{4, 32, false, kIq4, unpack_iq4_xs};
constexpr BlockCodes kTq1_0Codes{2, 128, false, kTernary, unpack_tq1_0};
constexpr BlockCodes kTq2_0Codes{2, 128, false, kTernary, unpack_tq2_0};
constexpr BlockCodes kMxfp4Codes{4, 32, false, kFp4, unpack_mxfp4};
constexpr BlockCodes kNvfp4Codes{4, 16, false, kFp4, unpack_nvfp4};
constexpr BlockCodes kHxqAffineG128Codes{8, 128, true, kUnsigned8, unpack_hxq_affine_g128};
constexpr BlockCodes kHxqAffine6Codes{6, 128, true, kUnsigned6, unpack_hxq_affine_6};

}  // namespace cdna
