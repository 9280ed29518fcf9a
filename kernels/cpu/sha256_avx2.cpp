// SHA-256 of eight messages at a time with AVX2.
#include <immintrin.h>

#include "kernels/cpu/sha256.h"
#include "kernels/cpu/sha256_padding.h"

namespace {

constexpr int kLanes = 8;
using Vector = __m256i;

CDNA_INLINE Vector splat(unsigned value) { return _mm256_set1_epi32(static_cast<int>(value)); }
CDNA_INLINE Vector add(Vector a, Vector b) { return _mm256_add_epi32(a, b); }
template <int kBits>
CDNA_INLINE Vector shift(Vector x) {
  return _mm256_srli_epi32(x, kBits);
}
template <int kBits>
CDNA_INLINE Vector rotate(Vector x) {
  return _mm256_or_si256(_mm256_srli_epi32(x, kBits), _mm256_slli_epi32(x, 32 - kBits));
}
CDNA_INLINE Vector xor3(Vector a, Vector b, Vector c) { return _mm256_xor_si256(_mm256_xor_si256(a, b), c); }
CDNA_INLINE Vector choose(Vector e, Vector f, Vector g) {
  return _mm256_xor_si256(_mm256_and_si256(e, _mm256_xor_si256(f, g)), g);
}
CDNA_INLINE Vector majority(Vector a, Vector b, Vector c) {
  return _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(c, _mm256_or_si256(a, b)));
}
CDNA_INLINE void store_words(unsigned* out, Vector x) { _mm256_store_si256(reinterpret_cast<__m256i*>(out), x); }

// Words 4 c to 4 c + 3 of messages i and i + 4, in one register.
CDNA_INLINE Vector load_pair(const unsigned char* const (&block)[kLanes], int i, int c) {
  const auto* const low = reinterpret_cast<const __m128i*>(block[i]) + c;
  const auto* const high = reinterpret_cast<const __m128i*>(block[i + 4]) + c;
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(low)), _mm_loadu_si128(high), 1);
}

// Reads 64 bytes of each message. Afterwards w[t] holds word t of all messages, in host byte order.
CDNA_INLINE void load_words(const unsigned char* const (&block)[kLanes], Vector (&w)[16]) {
  const Vector swap = _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0C0D0E0F08090A0B, 0x0405060700010203));
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const Vector r0 = load_pair(block, 0, c);
    const Vector r1 = load_pair(block, 1, c);
    const Vector r2 = load_pair(block, 2, c);
    const Vector r3 = load_pair(block, 3, c);
    const Vector low01 = _mm256_unpacklo_epi32(r0, r1);
    const Vector high01 = _mm256_unpackhi_epi32(r0, r1);
    const Vector low23 = _mm256_unpacklo_epi32(r2, r3);
    const Vector high23 = _mm256_unpackhi_epi32(r2, r3);
    w[4 * c] = _mm256_shuffle_epi8(_mm256_unpacklo_epi64(low01, low23), swap);
    w[4 * c + 1] = _mm256_shuffle_epi8(_mm256_unpackhi_epi64(low01, low23), swap);
    w[4 * c + 2] = _mm256_shuffle_epi8(_mm256_unpacklo_epi64(high01, high23), swap);
    w[4 * c + 3] = _mm256_shuffle_epi8(_mm256_unpackhi_epi64(high01, high23), swap);
  }
}

}  // namespace

#include "kernels/cpu/sha256_vertical.h"

void cdna_sha256_many_avx2(const unsigned char* const* messages, size_t count, size_t bytes, unsigned char* digests) {
  hash_many(messages, count, bytes, digests);
}
