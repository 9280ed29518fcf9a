// The int8 kernels for AVX-512 (F, BW, VL, DQ, VBMI) and VNNI.
//
// A weight is 256 (high - 128) + low, and the instruction multiplies unsigned by signed bytes: both planes as they are
// with x. The sum of -128 x comes from the same instruction with x + 128 as the unsigned number, before any look-up is
// done: 24 G weights/s of 8 bits, with the sum of 128 x taken off behind them 22.
#include <immintrin.h>

#define CDNA_VECTOR_BYTES 64
#include "kernels/cpu/code_planes_avx512.h"
#include "kernels/cpu/matmul_vectors.h"
#include "kernels/cpu/row_steps.h"

namespace {

CDNA_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return (F32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }

// 128 columns have two, like 64 columns' scales.
template <bool kNibbles>
CDNA_INLINE F32 x_scales_of(const float* scales, size_t) {
  return kNibbles ? (F32)scales_of_64(scales) : broadcast(*scales);
}

template <size_t kVectors>
struct Weights {
  __m512i high[kVectors];
  __m512i low[kVectors];
};

template <size_t kVectors>
CDNA_INLINE I32 sum_of_products(const Weights<kVectors>& w, const int8_t* x) {
  const __m512i minus_128 = _mm512_set1_epi8(static_cast<char>(-128));
  // Of x + 128 four products are summed, so that -128 * 128 is too much four times.
  __m512i sum = _mm512_set1_epi32(4 * 128 * 128 * static_cast<int32_t>(kVectors));
  for (size_t i = 0; i < kVectors; ++i) {
    const __m512i unsigned_x = _mm512_xor_si512(_mm512_loadu_si512(x + 64 * i), minus_128);
    sum = _mm512_dpbusd_epi32(sum, unsigned_x, minus_128);
  }
  for (size_t i = 0; i < kVectors; ++i) sum = _mm512_dpbusd_epi32(sum, w.high[i], _mm512_loadu_si512(x + 64 * i));
  sum = _mm512_slli_epi32(sum, 8);
  for (size_t i = 0; i < kVectors; ++i) sum = _mm512_dpbusd_epi32(sum, w.low[i], _mm512_loadu_si512(x + 64 * i));
  return (I32)sum;
}

template <uint32_t kIndexBits>
struct ByteEntries {
  static constexpr bool kNibbles = false;

  explicit CDNA_INLINE ByteEntries(const cdna_lookup& table)
      : shape(shape_of<kNibbles>(table.bits, 8 * table.bits)),
        bytes(table.bits),
        low(table.fixed_planes[0]),
        high(table.fixed_planes[1]) {}

  CDNA_INLINE Weights<1> weights(const uint8_t* codes) const {
    const __m512i numbers = bytes.load(codes);
    return {{high.look_up(numbers)}, {low.look_up(numbers)}};
  }

  static CDNA_INLINE void multiply(const Weights<1>& w, const int8_t* x, I32 (&sums)[kSumVectors]) {
    sums[0] = sum_of_products(w, x);
  }

  StepShape shape;
  ByteCodes<kIndexBits> bytes;
  Plane<kIndexBits> low;
  Plane<kIndexBits> high;
};

// A look-up of 64 entries, which are 16 repeated, takes no notice of what is above a nibble.
struct NibbleEntries {
  static constexpr bool kNibbles = true;

  explicit CDNA_INLINE NibbleEntries(const cdna_lookup& table)
      : shape(shape_of<kNibbles>(4, 64)), low(table.fixed_planes[0]), high(table.fixed_planes[1]) {}

  CDNA_INLINE Weights<2> weights(const uint8_t* codes) const {
    const __m512i even = _mm512_loadu_si512(codes);
    const __m512i odd = _mm512_srli_epi16(even, 4);
    return {{high.look_up(even), high.look_up(odd)}, {low.look_up(even), low.look_up(odd)}};
  }

  static CDNA_INLINE void multiply(const Weights<2>& w, const int8_t* x, I32 (&sums)[kSumVectors]) {
    sums[0] = sum_of_products(w, x);
  }

  StepShape shape;
  Plane<6> low;
  Plane<6> high;
};

}  // namespace

#include "kernels/cpu/int8_body.h"

const cdna_int8_kernels* cdna_int8_kernels_avx512(void) { return &kKernels; }
