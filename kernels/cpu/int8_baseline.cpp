// The int8 kernels for any CPU.
#define CDNA_VECTOR_BYTES 16
#include "kernels/cpu/matmul_vectors.h"
#include "kernels/cpu/row_steps.h"

namespace {

CDNA_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return a * b + c; }

// A vector of sums has 16 columns, of nibbles 32.
template <bool kNibbles>
CDNA_INLINE F32 lane_scales(const float* scales, size_t v) {
  return broadcast(scales[kNibbles ? v : v / 2]);
}

template <bool kNibbles>
CDNA_INLINE F32 x_scales_of(const float* scales, size_t v) {
  return broadcast(scales[kNibbles ? v / 2 : 0]);
}

template <bool kOfNibbles>
struct Entries {
  static constexpr bool kNibbles = kOfNibbles;
  struct Weights {
    int16_t of[kNibbles ? 128 : 64];
  };

  explicit Entries(const cdna_lookup& table) : bits(table.bits), shape(shape_of<kNibbles>(table.bits, 64)) {
    for (size_t i = 0; i < 256; ++i)
      entries[i] = static_cast<int16_t>((table.fixed_planes[0][i] | table.fixed_planes[1][i] << 8) - 32768);
  }

  CDNA_INLINE Weights weights(const uint8_t* codes) const {
    Weights w;
    if constexpr (kNibbles) {
      for (size_t i = 0; i < 64; ++i) w.of[i] = entries[codes[i] & 15];
      for (size_t i = 0; i < 64; ++i) w.of[64 + i] = entries[codes[i] >> 4];
    } else {
      for (size_t group = 0; group < 8; ++group) {
        const uint64_t eight = load<uint64_t>(codes + group * bits);
        for (uint32_t i = 0; i < 8; ++i) w.of[8 * group + i] = entries[eight >> i * bits & 255];
      }
    }
    return w;
  }

  // Lane l of all has columns 4 l ... 4 l + 3, and as many odd ones.
  static CDNA_INLINE void multiply(const Weights& w, const int8_t* x, I32 (&sums)[kSumVectors]) {
    int32_t lanes[CDNA_SUM_LANES] = {};
    for (size_t begin = 0; begin < (kNibbles ? 128 : 64); begin += 64)
      for (size_t lane = 0; lane < CDNA_SUM_LANES; ++lane)
        for (size_t i = begin + 4 * lane; i < begin + 4 * lane + 4; ++i) lanes[lane] += x[i] * w.of[i];
    __builtin_memcpy(sums, lanes, sizeof lanes);
  }

  uint32_t bits;
  StepShape shape;
  int16_t entries[256];
};

using NibbleEntries = Entries<true>;
template <uint32_t>
using ByteEntries = Entries<false>;

}  // namespace

#include "kernels/cpu/int8_body.h"

const cdna_int8_kernels* cdna_int8_kernels_baseline(void) { return &kKernels; }
