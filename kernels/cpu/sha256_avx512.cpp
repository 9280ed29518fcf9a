// SHA-256 of sixteen messages at a time with AVX-512 F and BW.
#include <immintrin.h>

#include "kernels/cpu/sha256.h"
#include "kernels/cpu/sha256_padding.h"

namespace {

constexpr int kLanes = 16;
using Vector = __m512i;

CDNA_INLINE Vector splat(unsigned value) { return _mm512_set1_epi32(static_cast<int>(value)); }
CDNA_INLINE Vector add(Vector a, Vector b) { return _mm512_add_epi32(a, b); }
template <int kBits>
CDNA_INLINE Vector rotate(Vector x) {
  return _mm512_ror_epi32(x, kBits);
}
template <int kBits>
CDNA_INLINE Vector shift(Vector x) {
  return _mm512_srli_epi32(x, kBits);
}
// Truth tables of vpternlogd.
CDNA_INLINE Vector xor3(Vector a, Vector b, Vector c) { return _mm512_ternarylogic_epi32(a, b, c, 0x96); }
CDNA_INLINE Vector choose(Vector e, Vector f, Vector g) { return _mm512_ternarylogic_epi32(e, f, g, 0xCA); }
CDNA_INLINE Vector majority(Vector a, Vector b, Vector c) { return _mm512_ternarylogic_epi32(a, b, c, 0xE8); }
CDNA_INLINE void store_words(unsigned* out, Vector x) { _mm512_store_si512(out, x); }

// Reads 64 bytes of each message. Afterwards w[t] holds word t of all messages, in host byte order.
CDNA_INLINE void load_words(const unsigned char* const (&block)[kLanes], Vector (&w)[16]) {
  const Vector swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0C0D0E0F08090A0B, 0x0405060700010203));
  Vector r[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_si512(block[i]);
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 2) {
    w[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    w[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(w[i], w[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(w[i], w[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(w[i + 1], w[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(w[i + 1], w[i + 3]);
  }
  // Part p (of 128 bits) of r[4 q + c]: word 4 p + c of messages 4 q to 4 q + 3.
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const Vector low_even = _mm512_shuffle_i32x4(r[c], r[c + 4], 0x88);
    const Vector low_odd = _mm512_shuffle_i32x4(r[c], r[c + 4], 0xDD);
    const Vector high_even = _mm512_shuffle_i32x4(r[c + 8], r[c + 12], 0x88);
    const Vector high_odd = _mm512_shuffle_i32x4(r[c + 8], r[c + 12], 0xDD);
    w[c] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(low_even, high_even, 0x88), swap);
    w[c + 4] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(low_odd, high_odd, 0x88), swap);
    w[c + 8] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(low_even, high_even, 0xDD), swap);
    w[c + 12] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(low_odd, high_odd, 0xDD), swap);
  }
}

}  // namespace

#include "kernels/cpu/sha256_vertical.h"

void cdna_sha256_many_avx512(const unsigned char* const* messages, size_t count, size_t bytes, unsigned char* digests) {
  hash_many(messages, count, bytes, digests);
}
