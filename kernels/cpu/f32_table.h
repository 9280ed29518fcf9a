// Entries fetched one by one from the table in the first-level cache. Included by a file that includes f32_vectors.h.
#ifndef CDNA_KERNELS_CPU_F32_TABLE_H
#define CDNA_KERNELS_CPU_F32_TABLE_H

#include "kernels/cpu/code_bits.h"
#include "kernels/cpu/f32_vectors.h"

namespace {

template <cdna_order kOrderOfColumns>
struct TableEntries {
  static constexpr cdna_order kOrder = kOrderOfColumns;
  static constexpr size_t kCodes = kOrder == CDNA_ORDER_NIBBLES ? 128 : 64;

  struct Block {
    uint8_t codes[kCodes];
  };

  explicit CDNA_INLINE TableEntries(const cdna_lookup& table)
      : values(table.values), unit(table.entry_unit), bits(table.bits), block_bytes(kCodes / 8 * table.bits) {}

  CDNA_INLINE Block block(const uint8_t* codes) const {
    Block block;
    unpack_codes(bits, codes, kCodes / 8, block.codes);
    return block;
  }

  CDNA_INLINE F32 entry(const Block& block, int r) const { return whole_entry(block, r) * (1.0F / unit); }

  CDNA_INLINE F32 whole_entry(const Block& block, int r) const {
    F32 out;
    for (int lane = 0; lane < kLanes; ++lane) out[lane] = values[block.codes[column_of(kOrder, r * kLanes + lane)]];
    return out;
  }

  const float* values;
  float unit;
  uint32_t bits;
  size_t block_bytes;
};

inline void look_up_one_by_one(const cdna_lookup* table, const uint8_t* numbers, size_t count, size_t repeat,
                               float* out) {
  if (repeat == 1) {
    for (size_t i = 0; i < count; ++i) out[i] = table->values[numbers[i]];
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    const float value = table->values[numbers[i]];
    for (size_t k = 0; k < repeat; ++k) *out++ = value;
  }
}

}  // namespace

#endif
