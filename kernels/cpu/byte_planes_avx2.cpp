// Byte planes with AVX2: 32 elements at a time.
#include <immintrin.h>

#include "kernels/cpu/byte_planes.h"
#include "kernels/cpu/inline.h"

namespace {

using Vector = __m256i;

CDNA_INLINE Vector load(const unsigned char* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}
CDNA_INLINE void store(unsigned char* to, Vector x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), x); }

template <size_t kSize>
CDNA_INLINE Vector rotate_left(Vector x) {
  if constexpr (kSize == 2) return _mm256_or_si256(_mm256_slli_epi16(x, 1), _mm256_srli_epi16(x, 15));
  if constexpr (kSize == 4) return _mm256_or_si256(_mm256_slli_epi32(x, 1), _mm256_srli_epi32(x, 31));
  return _mm256_or_si256(_mm256_slli_epi64(x, 1), _mm256_srli_epi64(x, 63));
}
template <size_t kSize>
CDNA_INLINE Vector rotate_right(Vector x) {
  if constexpr (kSize == 2) return _mm256_or_si256(_mm256_srli_epi16(x, 1), _mm256_slli_epi16(x, 15));
  if constexpr (kSize == 4) return _mm256_or_si256(_mm256_srli_epi32(x, 1), _mm256_slli_epi32(x, 31));
  return _mm256_or_si256(_mm256_srli_epi64(x, 1), _mm256_slli_epi64(x, 63));
}

// Packing works within halves of 16 bytes; the permutation puts its four parts of 8 bytes in order.
CDNA_INLINE Vector pack(Vector a, Vector b) { return _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xD8); }
CDNA_INLINE Vector even(Vector a, Vector b) {
  const Vector low = _mm256_set1_epi16(0xFF);
  return pack(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
}
CDNA_INLINE Vector odd(Vector a, Vector b) { return pack(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8)); }
CDNA_INLINE Vector zip_low(Vector a, Vector b) {
  return _mm256_permute2x128_si256(_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b), 0x20);
}
CDNA_INLINE Vector zip_high(Vector a, Vector b) {
  return _mm256_permute2x128_si256(_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b), 0x31);
}

}  // namespace

#include "kernels/cpu/byte_planes_vector.h"

const cdna_byte_planes_kernel cdna_byte_planes_avx2 = {{split<2>, split<4>, split<8>}, {join<2>, join<4>, join<8>}};
