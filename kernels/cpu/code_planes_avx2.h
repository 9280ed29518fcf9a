// Codes to bytes, and bytes looked up in byte planes by the shuffles of AVX2. Included by a file that has defined
// CDNA_VECTOR_BYTES (vectors.h).
#ifndef CDNA_KERNELS_CPU_CODE_PLANES_AVX2_H
#define CDNA_KERNELS_CPU_CODE_PLANES_AVX2_H

#include <immintrin.h>

#include "kernels/cpu/code_bits_avx2.h"
#include "kernels/cpu/vectors.h"

namespace {

// 64 codes, one per byte, without what is above them: of 8 bits, of 7, or of fewer.
template <uint32_t kIndexBits>
struct ByteCodes {
  explicit CDNA_INLINE ByteCodes(uint32_t bits) : unpacker(bits) {}
  static CDNA_INLINE size_t load_bytes(uint32_t bits) { return WordUnpacker::load_bytes(bits); }
  CDNA_INLINE void load_codes(const uint8_t* codes, __m256i (&out)[2]) const { unpacker.unpack(codes, out); }

  WordUnpacker unpacker;
};

template <>
struct ByteCodes<8> {
  explicit CDNA_INLINE ByteCodes(uint32_t) {}
  static CDNA_INLINE size_t load_bytes(uint32_t) { return 64; }
  CDNA_INLINE void load_codes(const uint8_t* codes, __m256i (&out)[2]) const {
    for (int i = 0; i < 2; ++i) out[i] = load<__m256i>(codes + 32 * i);
  }
};

// A byte plane of 2^kIndexBits entries, as the differences of tables of 16.
//
// pshufb gives 0 for numbers below 0, and otherwise goes by their low 4 bits. So the exclusive or of the differences
// of tables 0, 1, ... at code, code - 16, ... is the entry of table code / 16. Codes above 127 are two such ladders:
// from 0 on those below 128, which are the others' negatives, and from 128 on.
template <uint32_t kIndexBits>
struct ByteLadder {
  static constexpr size_t kTables = size_t{1} << (kIndexBits - 4);

  explicit CDNA_INLINE ByteLadder(const uint8_t* plane) {
    for (size_t i = 0; i < kTables; ++i) {
      __m128i step = load_lane(plane + 16 * i);
      if (i % 8 != 0) step = _mm_xor_si128(step, load_lane(plane + 16 * (i - 1)));
      steps[i] = _mm256_broadcastsi128_si256(step);
    }
  }

  __m256i steps[kTables];
};

// The bytes of kPlanes planes at 64 codes, which have no bits above theirs.
template <uint32_t kIndexBits, size_t kPlanes>
CDNA_INLINE void climb(const ByteLadder<kIndexBits> (&planes)[kPlanes], const __m256i (&codes)[2],
                       __m256i (&out)[kPlanes][2]) {
  for (size_t plane = 0; plane < kPlanes; ++plane) out[plane][0] = out[plane][1] = _mm256_setzero_si256();
  const __m256i sixteen = _mm256_set1_epi8(16);
  __m256i at[2];
  CDNA_UNROLL(16)
  for (size_t table = 0; table < ByteLadder<kIndexBits>::kTables; ++table) {
    for (int i = 0; i < 2; ++i) {
      if (table == 0) {
        at[i] = codes[i];
      } else if (table == 8) {
        at[i] = _mm256_xor_si256(codes[i], _mm256_set1_epi8(-128));
      } else {
        at[i] = _mm256_subs_epi8(at[i], sixteen);
      }
      for (size_t plane = 0; plane < kPlanes; ++plane) {
        const __m256i step = _mm256_shuffle_epi8(planes[plane].steps[table], at[i]);
        out[plane][i] = _mm256_xor_si256(out[plane][i], step);
        __asm__("" : "+x"(out[plane][i]));  // A chain: g++ would make a tree of it, and has no registers for that.
      }
    }
  }
}

// What a look-up of 64 codes gives is in the order of unpacking: of each 32 columns first 0 to 7 and 16 to 23, then the
// others.

// Entries of 16 bits.
template <uint32_t kIndexBits>
struct WordPlanes {
  using Words = __m256i;

  explicit CDNA_INLINE WordPlanes(const uint8_t (&of)[2][256])
      : planes{ByteLadder<kIndexBits>(of[0]), ByteLadder<kIndexBits>(of[1])} {}

  CDNA_INLINE void look_up(const __m256i (&codes)[2], Words (&words)[2][2]) const {
    __m256i found[2][2];
    climb(planes, codes, found);
    for (int i = 0; i < 2; ++i) {
      words[i][0] = _mm256_unpacklo_epi8(found[0][i], found[1][i]);
      words[i][1] = _mm256_unpackhi_epi8(found[0][i], found[1][i]);
    }
  }

  ByteLadder<kIndexBits> planes[2];
};

// Lower and upper words of 16 f32: of the even columns, and of the odd ones.
struct FloatWords {
  CDNA_INLINE F32 even() const { return (F32)_mm256_blend_epi16(low, _mm256_slli_epi32(high, 16), 0xAA); }
  CDNA_INLINE F32 odd() const { return (F32)_mm256_blend_epi16(_mm256_srli_epi32(low, 16), high, 0xAA); }

  __m256i low;
  __m256i high;
};

// Entries that are f32.
template <uint32_t kIndexBits>
struct FloatPlanes {
  using Words = FloatWords;

  explicit CDNA_INLINE FloatPlanes(const uint8_t (&of)[4][256])
      : planes{ByteLadder<kIndexBits>(of[0]), ByteLadder<kIndexBits>(of[1]), ByteLadder<kIndexBits>(of[2]),
               ByteLadder<kIndexBits>(of[3])} {}

  CDNA_INLINE void look_up(const __m256i (&codes)[2], Words (&words)[2][2]) const {
    __m256i found[4][2];
    climb(planes, codes, found);
    for (int i = 0; i < 2; ++i) {
      words[i][0] = {_mm256_unpacklo_epi8(found[0][i], found[1][i]), _mm256_unpacklo_epi8(found[2][i], found[3][i])};
      words[i][1] = {_mm256_unpackhi_epi8(found[0][i], found[1][i]), _mm256_unpackhi_epi8(found[2][i], found[3][i])};
    }
  }

  ByteLadder<kIndexBits> planes[4];
};

// 16 entries of 16 bits.
struct NibblePlanes {
  explicit CDNA_INLINE NibblePlanes(const uint8_t (&planes)[2][256])
      : low(_mm256_broadcastsi128_si256(load_lane(planes[0]))),
        high(_mm256_broadcastsi128_si256(load_lane(planes[1]))) {}

  static CDNA_INLINE __m256i even_of(__m256i bytes) { return _mm256_and_si256(bytes, _mm256_set1_epi8(15)); }
  static CDNA_INLINE __m256i odd_of(__m256i bytes) { return even_of(_mm256_srli_epi16(bytes, 4)); }

  __m256i low;
  __m256i high;
};

// 16 entries that are f32.
struct NibbleFloats {
  explicit CDNA_INLINE NibbleFloats(const float* values)
      : low(_mm256_loadu_ps(values)), high(_mm256_loadu_ps(values + 8)) {}

  // The entries of the codes that begin at a bit of each dword. The sign of a choice is the code's upper bit.
  CDNA_INLINE F32 look_up(U32 codes, uint32_t bit) const {
    const __m256i numbers = (__m256i)(codes >> bit);
    const __m256 choice = (__m256)(codes << (28 - bit));
    return (F32)_mm256_blendv_ps(_mm256_permutevar8x32_ps(low, numbers), _mm256_permutevar8x32_ps(high, numbers),
                                 choice);
  }

  __m256 low;
  __m256 high;
};

// One scale per 32 columns: of vector i of 64, or of 128 in which four lanes have 32.
template <bool kNibbles>
CDNA_INLINE F32 lane_scales(const float* scales, size_t i) {
  if constexpr (!kNibbles) return (F32)_mm256_set1_ps(scales[i]);
  return (F32)_mm256_set_m128(_mm_set1_ps(scales[2 * i + 1]), _mm_set1_ps(scales[2 * i]));
}

}  // namespace

#endif
