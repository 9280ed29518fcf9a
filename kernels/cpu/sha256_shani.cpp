// SHA-256 with the SHA extensions, four messages interleaved.
//
// `sha256rnds2` takes four cycles and a new one can start in each, so that one message leaves three quarters of the
// unit idle. Four states fill it, but four message schedules do not fit into the sixteen registers beside them: so
// while the rounds of one block run, the schedule of the next is written to memory, of which only the latest words stay
// in registers.
#include <immintrin.h>

#include "kernels/cpu/sha256.h"
#include "kernels/cpu/sha256_padding.h"

#define CDNA_INLINE inline __attribute__((always_inline))

namespace {

constexpr size_t kLanesMax = 4;

// The hash value in the order that the instructions want.
struct State {
  __m128i abef;
  __m128i cdgh;
};

// The 64 words of a block, four to a group.
struct alignas(64) Schedule {
  __m128i group[16];
};

CDNA_INLINE __m128i load(const void* address) { return _mm_loadu_si128(static_cast<const __m128i*>(address)); }

CDNA_INLINE __m128i load_half(const void* address) { return _mm_loadl_epi64(static_cast<const __m128i*>(address)); }

// Makes one group of the words of a block. `latest`: the group before.
template <int kGroup>
CDNA_INLINE void schedule_group(const unsigned char* block, __m128i& latest, Schedule& out) {
  if constexpr (kGroup < 4) {
    const __m128i swap = _mm_set_epi64x(0x0C0D0E0F08090A0B, 0x0405060700010203);
    latest = _mm_shuffle_epi8(load(block + 16 * kGroup), swap);
  } else {
    __m128i* const w = out.group + kGroup;
    asm("" : "+m"(w[-4]), "+m"(w[-3]), "+m"(w[-2]));  // From memory: the compiler would spill the states instead.
    const __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[-4], w[-3]), _mm_alignr_epi8(latest, w[-2], 4));
    latest = _mm_sha256msg2_epu32(sum, latest);
  }
  out.group[kGroup] = latest;
}

template <int kGroup = 0>
CDNA_INLINE void schedule_all(const unsigned char* block, __m128i latest, Schedule& out) {
  if constexpr (kGroup < 16) {
    schedule_group<kGroup>(block, latest, out);
    schedule_all<kGroup + 1>(block, latest, out);
  }
}

// Four rounds of every message, and four words of each message's next block.
template <size_t kLanes, int kGroup = 0>
CDNA_INLINE void rounds(State (&state)[kLanes], const Schedule (&now)[kLanes],
                        const unsigned char* const (&next)[kLanes], __m128i (&latest)[kLanes],
                        Schedule (&out)[kLanes]) {
  if constexpr (kGroup < 16) {
    __m128i low = load(kRoundConstants + 4 * kGroup);
    __m128i high = load_half(kRoundConstants + 4 * kGroup + 2);
    asm("" : "+x"(low), "+x"(high));  // Loaded once, not by each message.
#pragma GCC unroll 4
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const __m128i keyed = _mm_add_epi32(low, now[lane].group[kGroup]);
      state[lane].cdgh = _mm_sha256rnds2_epu32(state[lane].cdgh, state[lane].abef, keyed);
      schedule_group<kGroup>(next[lane], latest[lane], out[lane]);
    }
#pragma GCC unroll 4
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const auto* const words = reinterpret_cast<const unsigned char*>(&now[lane].group[kGroup]);
      const __m128i keyed = _mm_add_epi32(high, load_half(words + 8));
      state[lane].abef = _mm_sha256rnds2_epu32(state[lane].abef, state[lane].cdgh, keyed);
    }
    rounds<kLanes, kGroup + 1>(state, now, next, latest, out);
  }
}

template <size_t kLanes>
CDNA_INLINE void compress(State (&state)[kLanes], const Schedule (&now)[kLanes],
                          const unsigned char* const (&next)[kLanes], Schedule (&out)[kLanes]) {
  State before[kLanes];
  __m128i latest[kLanes];
  for (size_t lane = 0; lane < kLanes; ++lane) before[lane] = state[lane];
  for (size_t lane = 0; lane < kLanes; ++lane) asm("" : "+m"(before[lane]));
  rounds<kLanes>(state, now, next, latest, out);
  for (size_t lane = 0; lane < kLanes; ++lane) {
    state[lane].abef = _mm_add_epi32(state[lane].abef, before[lane].abef);
    state[lane].cdgh = _mm_add_epi32(state[lane].cdgh, before[lane].cdgh);
  }
}

void store_digest(const State& state, unsigned char* digest) {
  const __m128i swap = _mm_set_epi64x(0x0C0D0E0F08090A0B, 0x0405060700010203);
  const __m128i feba = _mm_shuffle_epi32(state.abef, 0x1B);
  const __m128i dchg = _mm_shuffle_epi32(state.cdgh, 0xB1);
  const __m128i dcba = _mm_blend_epi16(feba, dchg, 0xF0);
  const __m128i hgfe = _mm_alignr_epi8(dchg, feba, 8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(digest), _mm_shuffle_epi8(dcba, swap));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(digest + 16), _mm_shuffle_epi8(hgfe, swap));
}

// Where the messages' blocks are; past the end, the last block.
template <size_t kLanes>
struct Blocks {
  const unsigned char* const* messages;
  size_t whole;  // Per message.
  size_t padded = 0;
  unsigned char last[kLanes][128];

  Blocks(const unsigned char* const* in, size_t bytes) : messages(in), whole(bytes / 64) {
    for (size_t lane = 0; lane < kLanes; ++lane) padded = pad_last_blocks(in[lane] + 64 * whole, bytes, last[lane]);
  }
  size_t count() const { return whole + padded; }
  CDNA_INLINE void at(size_t i, const unsigned char* (&out)[kLanes]) const {
    const size_t beyond = i < count() ? i - whole : padded - 1;
    for (size_t lane = 0; lane < kLanes; ++lane)
      out[lane] = i < whole ? messages[lane] + 64 * i : last[lane] + 64 * beyond;
  }
};

template <size_t kLanes>
void hash_lanes(const unsigned char* const* messages, size_t bytes, unsigned char* digests) {
  const Blocks<kLanes> blocks(messages, bytes);
  State state[kLanes];
  for (State& s : state) {
    s.abef = _mm_set_epi32(0x6A09E667, static_cast<int>(0xBB67AE85), 0x510E527F, static_cast<int>(0x9B05688C));
    s.cdgh = _mm_set_epi32(0x3C6EF372, static_cast<int>(0xA54FF53A), 0x1F83D9AB, 0x5BE0CD19);
  }
  Schedule schedules[2][kLanes];
  const unsigned char* next[kLanes];
  blocks.at(0, next);
  for (size_t lane = 0; lane < kLanes; ++lane) schedule_all(next[lane], _mm_setzero_si128(), schedules[0][lane]);
  for (size_t i = 0; i < blocks.count(); ++i) {
    blocks.at(i + 1, next);
    compress(state, schedules[i % 2], next, schedules[(i + 1) % 2]);
  }
  for (size_t lane = 0; lane < kLanes; ++lane) store_digest(state[lane], digests + 32 * lane);
}

}  // namespace

void cdna_sha256_many_shani(const unsigned char* const* messages, size_t count, size_t bytes, unsigned char* digests) {
  for (; count >= kLanesMax; count -= kLanesMax) {
    hash_lanes<kLanesMax>(messages, bytes, digests);
    messages += kLanesMax;
    digests += 32 * kLanesMax;
  }
  if (count == 3) hash_lanes<3>(messages, bytes, digests);
  if (count == 2) hash_lanes<2>(messages, bytes, digests);
  if (count == 1) hash_lanes<1>(messages, bytes, digests);
}
