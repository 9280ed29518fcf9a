// The int8 kernels for AVX2 and FMA: weights and x as words.
#include <immintrin.h>

#define CDNA_VECTOR_BYTES 32
#include "kernels/cpu/code_planes_avx2.h"
#include "kernels/cpu/matmul_vectors.h"
#include "kernels/cpu/row_steps.h"

namespace {

CDNA_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return (F32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }

// A vector of sums has 32 columns, of nibbles 64.
template <bool kNibbles>
CDNA_INLINE F32 x_scales_of(const float* scales, size_t v) {
  return broadcast(scales[kNibbles ? v : 0]);
}

// Words of 32 bytes in the order of unpacking, signed.
struct Words {
  __m256i of[2];
};

CDNA_INLINE __m256i signed_of(__m256i fixed) {
  return _mm256_xor_si256(fixed, _mm256_set1_epi16(static_cast<int16_t>(0x8000)));
}

CDNA_INLINE __m256i sum_of_products(const Words& w, const int8_t* x) {
  const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
  const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + 16));
  const __m256i lower = _mm256_cvtepi8_epi16(_mm_unpacklo_epi64(first, second));
  const __m256i upper = _mm256_cvtepi8_epi16(_mm_unpackhi_epi64(first, second));
  return _mm256_add_epi32(_mm256_madd_epi16(w.of[0], lower), _mm256_madd_epi16(w.of[1], upper));
}

template <uint32_t kIndexBits>
struct ByteEntries {
  static constexpr bool kNibbles = false;
  struct Weights {
    Words halves[2];
  };

  explicit CDNA_INLINE ByteEntries(const cdna_lookup& table)
      : shape(shape_of<kNibbles>(table.bits, ByteCodes<kIndexBits>::load_bytes(table.bits))),
        bytes(table.bits),
        planes(table.fixed_planes) {}

  CDNA_INLINE Weights weights(const uint8_t* codes) const {
    __m256i numbers[2];
    __m256i found[2][2];
    bytes.load_codes(codes, numbers);
    planes.look_up(numbers, found);
    return {{{{signed_of(found[0][0]), signed_of(found[0][1])}}, {{signed_of(found[1][0]), signed_of(found[1][1])}}}};
  }

  static CDNA_INLINE void multiply(const Weights& w, const int8_t* x, I32 (&sums)[kSumVectors]) {
    for (size_t half = 0; half < 2; ++half) sums[half] = (I32)sum_of_products(w.halves[half], x + 32 * half);
  }

  StepShape shape;
  ByteCodes<kIndexBits> bytes;
  WordPlanes<kIndexBits> planes;
};

struct NibbleEntries {
  static constexpr bool kNibbles = true;
  struct Weights {
    Words even[2];
    Words odd[2];
  };

  explicit CDNA_INLINE NibbleEntries(const cdna_lookup& table)
      : shape(shape_of<kNibbles>(4, 64)), entries(table.fixed_planes) {}

  CDNA_INLINE Words look_up(__m256i codes) const {
    const __m256i low = _mm256_shuffle_epi8(entries.low, codes);
    const __m256i high = _mm256_shuffle_epi8(entries.high, codes);
    return {{signed_of(_mm256_unpacklo_epi8(low, high)), signed_of(_mm256_unpackhi_epi8(low, high))}};
  }

  CDNA_INLINE Weights weights(const uint8_t* codes) const {
    Weights w;
    for (size_t half = 0; half < 2; ++half) {
      const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * half));
      w.even[half] = look_up(NibblePlanes::even_of(bytes));
      w.odd[half] = look_up(NibblePlanes::odd_of(bytes));
    }
    return w;
  }

  static CDNA_INLINE void multiply(const Weights& w, const int8_t* x, I32 (&sums)[kSumVectors]) {
    for (size_t half = 0; half < 2; ++half)
      sums[half] = (I32)_mm256_add_epi32(sum_of_products(w.even[half], x + 32 * half),
                                         sum_of_products(w.odd[half], x + 64 + 32 * half));
  }

  StepShape shape;
  NibblePlanes entries;
};

}  // namespace

#include "kernels/cpu/int8_body.h"

const cdna_int8_kernels* cdna_int8_kernels_avx2(void) { return &kKernels; }
