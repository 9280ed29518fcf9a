// Byte planes with AVX-512 (F, BW, VBMI): 64 elements at a time.
#include <immintrin.h>

#include "kernels/cpu/byte_planes.h"
#include "kernels/cpu/inline.h"

namespace {

using Vector = __m512i;

CDNA_INLINE Vector load(const unsigned char* from) { return _mm512_loadu_si512(from); }
CDNA_INLINE void store(unsigned char* to, Vector x) { _mm512_storeu_si512(to, x); }

template <size_t kSize>
CDNA_INLINE Vector rotate_left(Vector x) {
  if constexpr (kSize == 2) return _mm512_or_si512(_mm512_slli_epi16(x, 1), _mm512_srli_epi16(x, 15));
  if constexpr (kSize == 4) return _mm512_rol_epi32(x, 1);
  return _mm512_rol_epi64(x, 1);
}
template <size_t kSize>
CDNA_INLINE Vector rotate_right(Vector x) {
  if constexpr (kSize == 2) return _mm512_or_si512(_mm512_srli_epi16(x, 1), _mm512_slli_epi16(x, 15));
  if constexpr (kSize == 4) return _mm512_ror_epi32(x, 1);
  return _mm512_ror_epi64(x, 1);
}

// Bytes of two vectors, by number: 0 to 63 in the first, 64 to 127 in the second.
struct Numbers {
  alignas(64) unsigned char even[64], odd[64], zip_low[64], zip_high[64];
};

constexpr Numbers make_numbers() {
  Numbers numbers{};
  for (unsigned i = 0; i < 64; ++i) {
    numbers.even[i] = static_cast<unsigned char>(2 * i);
    numbers.odd[i] = static_cast<unsigned char>(2 * i + 1);
    numbers.zip_low[i] = static_cast<unsigned char>(i / 2 + i % 2 * 64);
    numbers.zip_high[i] = static_cast<unsigned char>(32 + i / 2 + i % 2 * 64);
  }
  return numbers;
}

constexpr Numbers kNumbers = make_numbers();

CDNA_INLINE Vector even(Vector a, Vector b) { return _mm512_permutex2var_epi8(a, load(kNumbers.even), b); }
CDNA_INLINE Vector odd(Vector a, Vector b) { return _mm512_permutex2var_epi8(a, load(kNumbers.odd), b); }
CDNA_INLINE Vector zip_low(Vector a, Vector b) { return _mm512_permutex2var_epi8(a, load(kNumbers.zip_low), b); }
CDNA_INLINE Vector zip_high(Vector a, Vector b) { return _mm512_permutex2var_epi8(a, load(kNumbers.zip_high), b); }

}  // namespace

#include "kernels/cpu/byte_planes_vector.h"

const cdna_byte_planes_kernel cdna_byte_planes_avx512 = {{split<2>, split<4>, split<8>}, {join<2>, join<4>, join<8>}};
