// Bit-packed codes to bytes with VBMI: one permutation brings the bytes of 64 codes to their places, one multishift
// cuts them into codes. Bits above a code are those of its neighbours.
#ifndef CDNA_KERNELS_CPU_CODE_BITS_AVX512_H
#define CDNA_KERNELS_CPU_CODE_BITS_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/inline.h"

namespace {

// Which code each byte of a vector of 64 gets.
struct alignas(64) CodeOrder {
  uint8_t places[64];
};

constexpr CodeOrder codes_in_order() {
  CodeOrder order = {};
  for (uint32_t i = 0; i < 64; ++i) order.places[i] = static_cast<uint8_t>(i);
  return order;
}

// When bytes are unpacked to dwords, those of dword d of each 128-bit lane go to vector d: then these are in natural
// order.
constexpr CodeOrder codes_for_dwords() {
  CodeOrder order = {};
  for (uint32_t i = 0; i < 64; ++i) order.places[i] = static_cast<uint8_t>(i % 16 / 4 * 16 + i / 16 * 4 + i % 4);
  return order;
}

// Or in CDNA_ORDER_EVEN_ODD.
constexpr CodeOrder codes_even_odd() {
  CodeOrder order = {};
  for (uint32_t i = 0; i < 64; ++i) order.places[i] = static_cast<uint8_t>(i / 8 * 8 + i % 4 * 2 + i / 4 % 2);
  return order;
}

// When bytes are unpacked to words, and words in half a vector become f32: in the same.
constexpr CodeOrder codes_for_halves() {
  CodeOrder order = {};
  for (uint32_t i = 0; i < 64; ++i) {
    const uint32_t vector = i % 16 / 8 * 2 + i / 32;
    const uint32_t lane = i / 16 % 2 * 8 + i % 8;
    order.places[i] = static_cast<uint8_t>(lane / 4 * 16 + vector / 2 * 8 + lane % 4 * 2 + vector % 2);
  }
  return order;
}

constexpr CodeOrder kCodesInOrder = codes_in_order();
constexpr CodeOrder kCodesForDwords = codes_for_dwords();
constexpr CodeOrder kCodesEvenOdd = codes_even_odd();
constexpr CodeOrder kCodesForHalves = codes_for_halves();

struct alignas(64) CodeCuts {
  uint8_t bytes[64];
  uint8_t shifts[64];
};

// Requires: bits < 8, and an order within each eight codes: those have the `bits` bytes of a quadword to themselves.
constexpr CodeCuts cuts_of(uint32_t bits, const CodeOrder& order) {
  CodeCuts cuts = {};
  for (uint32_t i = 0; i < 64; ++i) {
    cuts.bytes[i] = static_cast<uint8_t>(i / 8 * bits + (i % 8 < bits ? i % 8 : 0));
    cuts.shifts[i] = static_cast<uint8_t>(order.places[i] % 8 * bits);
  }
  return cuts;
}

struct CodeCutTable {
  CodeCuts of_bits[8];
};

constexpr CodeCutTable cut_table(const CodeOrder& order) {
  CodeCutTable table = {};
  for (uint32_t bits = 1; bits < 8; ++bits) table.of_bits[bits] = cuts_of(bits, order);
  return table;
}

constexpr CodeCutTable kCutsInOrder = cut_table(kCodesInOrder);
constexpr CodeCutTable kCutsEvenOdd = cut_table(kCodesEvenOdd);

// 64 codes of fewer than 8 bits. Touches no more than their 8 * bits bytes.
struct CodeUnpacker {
  CDNA_INLINE CodeUnpacker(uint32_t bits, const CodeCutTable& table)
      : bytes(_mm512_load_si512(table.of_bits[bits].bytes)),
        shifts(_mm512_load_si512(table.of_bits[bits].shifts)),
        mask((uint64_t{1} << (8 * bits)) - 1) {}

  CDNA_INLINE __m512i unpack(const uint8_t* codes) const {
    return _mm512_multishift_epi64_epi8(shifts, _mm512_permutexvar_epi8(bytes, _mm512_maskz_loadu_epi8(mask, codes)));
  }

  __m512i bytes;
  __m512i shifts;
  __mmask64 mask;
};

}  // namespace

#endif
