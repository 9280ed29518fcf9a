// The bf16 kernels for any CPU: look-ups one by one, products and sums of f32.
#define CDNA_VECTOR_BYTES 16
#include "kernels/cpu/bf16_vectors.h"

namespace {

CDNA_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return a * b + c; }

}  // namespace

#include "kernels/cpu/bf16_split.h"
#include "kernels/cpu/row_steps.h"

namespace {

// Of 16 vectors 8 are sums, 4 of b, two of a.
constexpr size_t kTileRows = 4;
constexpr size_t kTileVectors = 2;

// A vector of words has the columns of one scale.
template <bool kNibbles>
CDNA_INLINE F32 lane_scales(const float* scales, size_t i) {
  return broadcast(scales[kNibbles ? i : i / 2]);
}

template <bool kOfNibbles>
struct Entries {
  static constexpr bool kNibbles = kOfNibbles;
  static constexpr size_t kColumns = kStepColumns<kNibbles>;

  explicit Entries(const cdna_lookup& table) : from(table), shape(shape_of<kNibbles>(table.bits, 64)) {
    for (size_t i = 0; i < 256; ++i)
      entries[i] = static_cast<uint16_t>(table.bf16_planes[0][i] | table.bf16_planes[1][i] << 8);
  }

  // The code at each position of the packed order, with any bits above.
  CDNA_INLINE void load_codes(const uint8_t* packed, uint8_t (&codes)[kColumns]) const {
    if constexpr (kNibbles) {
      for (size_t word = 0; word < 32; ++word)
        for (size_t i = 0; i < 4; ++i)
          codes[32 * i + word] = static_cast<uint8_t>(packed[2 * word + i / 2] >> i % 2 * 4 & 15);
    } else {
      for (size_t group = 0; group < 8; ++group) {
        const uint64_t eight = load<uint64_t>(packed + group * from.bits);
        uint8_t* to = codes + group % 2 * 32 + group / 2 * 8;
        for (uint32_t i = 0; i < 8; ++i) to[i] = static_cast<uint8_t>(eight >> i * from.bits);
      }
    }
  }

  CDNA_INLINE void words(const uint8_t* packed, U32* out) const {
    uint8_t codes[kColumns];
    uint16_t found[kColumns];
    load_codes(packed, codes);
    for (size_t i = 0; i < kColumns; ++i) found[i] = entries[codes[i]];
    __builtin_memcpy(out, found, sizeof found);
  }

  CDNA_INLINE void scaled_words(const uint8_t* packed, const float* scales, U32* out) const {
    uint8_t codes[kColumns];
    load_codes(packed, codes);
    for (size_t v = 0; v < kStepVectors<kNibbles>; ++v) {
      const uint8_t* code = codes + v * kWords;
      const F32 lanes = lane_scales<kNibbles>(scales, v % kScaleVectors);
      const float* values = from.values;
      const F32 first = {values[code[0]], values[code[2]], values[code[4]], values[code[6]]};
      const F32 second = {values[code[1]], values[code[3]], values[code[5]], values[code[7]]};
      out[v] = round_pairs(first * lanes, second * lanes);
    }
  }

  const cdna_lookup& from;
  StepShape shape;
  uint16_t entries[256];
};

using NibbleEntries = Entries<true>;
template <uint32_t>
using ByteEntries = Entries<false>;

}  // namespace

#include "kernels/cpu/bf16_body.h"

const cdna_bf16_kernels* cdna_bf16_kernels_baseline(void) { return &kKernels; }
