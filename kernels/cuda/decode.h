// From a lane's words to the registers of an A operand: pure functions of words, for device and host.
//
// Every width is looked up by bytes, one table row of 256 per byte: PRMT puts a byte of codes above the byte 4 * lane
// and has the shared-memory address of the lane's own copy of the entry, in one instruction and without bank conflicts
// (32 copies; one copy of 256 entries serves 10 to 12 lookups per clock where memory delivers 17 to 19 codes). Rows
// with spare bits in their number repeat the entry of the low bits. Of 4-bit codes a byte is two neighbours, and an
// entry both their values.
#pragma once

#include "layout.h"

namespace cdna_cuda {

// What the 16-bit halves of A and B are.
enum class Half : std::uint8_t { f16, bf16 };

// Bytes between two rows of the table: 32 lanes x 4 bytes, and as much that is free for other uses. A row's copies lie
// at the start.
constexpr unsigned kTableStride = 256;
constexpr unsigned kTableRows = 256;
constexpr std::size_t kTableBytes = std::size_t{kTableRows} * kTableStride;

CDNA_HD std::uint32_t select_bytes(std::uint32_t a, std::uint32_t b, std::uint32_t selector) {
#ifdef __CUDA_ARCH__
  return __byte_perm(a, b, selector);
#else
  std::uint32_t result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned from = selector >> 4 * i & 7U;
    result |= ((from < 4 ? a >> 8 * from : b >> 8 * (from - 4)) & 0xFFU) << 8 * i;
  }
  return result;
#endif
}

// The shared-memory offset of table row `byte j of codes` for the lane: {4 * lane, byte j, 0, 0}.
CDNA_HD std::uint32_t table_offset(std::uint32_t codes, unsigned j, std::uint32_t lane_offset) {
  // lane_offset = 4 * lane < 128: bytes 1 to 3 of it are 0.
  return select_bytes(lane_offset, codes, 0x1140U + (j << 4));
}

// The four codes of a step as bytes; what is above `bits` in a byte is not specified. `words` are a half's b words; for
// 5, 6 and 8 bits.
template <unsigned bits>
CDNA_HD std::uint32_t step_bytes(const std::uint32_t* words, unsigned step) {
  static_assert(bits == 5 || bits == 6 || bits == 8);
  if (step < bits) return words[step];
  if (bits == 6) {
    const std::uint32_t* const w = words + 3 * (step - 6);
    return (w[0] >> 6 & 0x03030303U) | (w[1] >> 4 & 0x0C0C0C0CU) | (w[2] >> 2 & 0x30303030U);
  }
  if (step == 7) {
    return (words[4] >> 5 & 0x07070707U) | (words[1] >> 4 & 0x08080808U) | (words[3] >> 3 & 0x10101010U);
  }
  const std::uint32_t* const w = words + 2 * (step - 5);
  return (w[0] >> 5 & 0x07070707U) | (w[1] >> 2 & 0x18181818U);
}

// The code of a step, for reference and for what is not in a hurry.
CDNA_HD std::uint32_t code_of(unsigned bits, const std::uint32_t* words, unsigned step, unsigned j) {
  if (bits == 4) return words[step / 2] >> (16 * (step % 2) + 4 * j) & 15U;
  const std::uint32_t bytes = bits == 5   ? step_bytes<5>(words, step)
                              : bits == 6 ? step_bytes<6>(words, step)
                                          : step_bytes<8>(words, step);
  return bytes >> 8 * j & ((1U << bits) - 1);
}

// binary16 to f32, exactly.
CDNA_HD float widen_f16(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits} >> 15 << 31;
  const std::uint32_t magnitude = bits & 0x7FFFU;
  union {
    std::uint32_t u;
    float f;
  } value;
  if (magnitude >= 0x7C00U) {
    value.u = sign | 0x7F800000U | (magnitude & 0x3FFU) << 13;
  } else if (magnitude >= 0x0400U) {
    value.u = sign | ((magnitude << 13) + 0x38000000U);
  } else {
    value.f = static_cast<float>(magnitude) * 0x1p-24F;
    value.u |= sign;
  }
  return value.f;
}

// f32 to bf16, to nearest, ties to even; NaN stays NaN.
CDNA_HD std::uint16_t narrow_bf16(float number) {
  union {
    float f;
    std::uint32_t u;
  } value{number};
  if ((value.u & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>(value.u >> 16 | 0x40U);
  return static_cast<std::uint16_t>((value.u + 0x7FFFU + (value.u >> 16 & 1U)) >> 16);
}

// A binary16 codebook entry in the type of the products.
CDNA_HD std::uint16_t entry_bits(Half half, std::uint16_t entry) {
  return half == Half::f16 ? entry : narrow_bf16(widen_f16(entry));
}

// What row `row` of the table holds. 5, 6, 8 bits: the entry in both halves. 4 bits: the entry of the low nibble in the
// low half, that of the high one in the high half. codebook: 2^bits binary16 entries.
CDNA_HD std::uint32_t table_word(unsigned bits, Half half, const std::uint16_t* codebook, unsigned row) {
  const unsigned mask = (1U << bits) - 1;
  const std::uint32_t low = entry_bits(half, codebook[row & mask]);
  const std::uint32_t high = entry_bits(half, codebook[bits == 4 ? row >> 4 : row & mask]);
  return low | high << 16;
}

}  // namespace cdna_cuda
