// SHA-256 of kLanes messages at a time, one per 32-bit lane of a vector register. Included by a file that defines, for
// its instruction set: kLanes, Vector, splat, add, rotate<N>, shift<N>, xor3, choose, majority, load_words,
// store_words.
#include "kernels/cpu/sha256_padding.h"

namespace {

CDNA_INLINE Vector big0(Vector x) { return xor3(rotate<2>(x), rotate<13>(x), rotate<22>(x)); }
CDNA_INLINE Vector big1(Vector x) { return xor3(rotate<6>(x), rotate<11>(x), rotate<25>(x)); }
CDNA_INLINE Vector small0(Vector x) { return xor3(rotate<7>(x), rotate<18>(x), shift<3>(x)); }
CDNA_INLINE Vector small1(Vector x) { return xor3(rotate<17>(x), rotate<19>(x), shift<10>(x)); }

// FIPS 180-4, 6.2.2. The eight variables change places instead of moving.
template <int kRound = 0>
CDNA_INLINE void rounds(Vector (&s)[8], Vector (&w)[16]) {
  if constexpr (kRound < 64) {
    const auto variable = [&s](int i) -> Vector& { return s[(64 + i - kRound) % 8]; };
    Vector& word = w[kRound % 16];
    if constexpr (kRound >= 16)
      word = add(add(word, small0(w[(kRound + 1) % 16])), add(w[(kRound + 9) % 16], small1(w[(kRound + 14) % 16])));
    const Vector e = variable(4);
    const Vector keyed = add(variable(7), add(word, splat(kRoundConstants[kRound])));
    const Vector t1 = add(keyed, add(big1(e), choose(e, variable(5), variable(6))));
    const Vector a = variable(0);
    variable(3) = add(variable(3), t1);
    variable(7) = add(t1, add(big0(a), majority(a, variable(1), variable(2))));
    rounds<kRound + 1>(s, w);
  }
}

CDNA_INLINE void compress(Vector (&s)[8], const unsigned char* (&block)[kLanes]) {
  Vector w[16];
  Vector before[8];
  load_words(block, w);
  for (int i = 0; i < 8; ++i) before[i] = s[i];
  rounds(s, w);
  for (int i = 0; i < 8; ++i) s[i] = add(s[i], before[i]);
  for (int lane = 0; lane < kLanes; ++lane) block[lane] += 64;
}

void hash_lanes(const unsigned char* const* messages, size_t bytes, unsigned char* digests) {
  Vector s[8];
  const unsigned char* block[kLanes];
  for (int i = 0; i < 8; ++i) s[i] = splat(kInitialState[i]);
  for (int lane = 0; lane < kLanes; ++lane) block[lane] = messages[lane];
  for (size_t left = bytes / 64; left > 0; --left) compress(s, block);
  unsigned char last[kLanes][128];
  size_t last_blocks = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    last_blocks = pad_last_blocks(block[lane], bytes, last[lane]);
    block[lane] = last[lane];
  }
  for (; last_blocks > 0; --last_blocks) compress(s, block);
  alignas(64) unsigned words[8][kLanes];
  for (int i = 0; i < 8; ++i) store_words(words[i], s[i]);
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < 32; ++i)
      digests[32 * lane + i] = static_cast<unsigned char>(words[i / 4][lane] >> (24 - 8 * (i % 4)));
  }
}

void hash_many(const unsigned char* const* messages, size_t count, size_t bytes, unsigned char* digests) {
  for (; count >= kLanes; count -= kLanes) {
    hash_lanes(messages, bytes, digests);
    messages += kLanes;
    digests += 32 * kLanes;
  }
  if (count == 0) return;
  const unsigned char* filled[kLanes];  // Idle lanes repeat the last message.
  unsigned char out[32 * kLanes];
  for (size_t lane = 0; lane < kLanes; ++lane) filled[lane] = messages[lane < count ? lane : count - 1];
  hash_lanes(filled, bytes, out);
  __builtin_memcpy(digests, out, 32 * count);
}

}  // namespace
