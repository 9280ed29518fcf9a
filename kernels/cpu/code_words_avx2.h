// Codes to 16-bit words on AVX2: of at most 6 bits by byte shuffles, of 7 and 8 by gathers.
#ifndef CDNA_KERNELS_CPU_CODE_WORDS_AVX2_H
#define CDNA_KERNELS_CPU_CODE_WORDS_AVX2_H

#include <immintrin.h>

#include "kernels/cpu/row_steps.h"

namespace {

// 32 codes, one per byte, without what is above them.
struct ByteCodes {
  explicit CDNA_INLINE ByteCodes(uint32_t of_bits) : bits(of_bits), mask(_mm256_set1_epi8(mask_of(of_bits))) {
    uint8_t windows[16];
    uint16_t factors[8];
    for (uint32_t i = 0; i < 8; ++i) {
      windows[2 * i] = static_cast<uint8_t>(i * bits / 8);
      windows[2 * i + 1] = static_cast<uint8_t>(i * bits / 8 + 1);
      factors[i] = static_cast<uint16_t>(1U << (8 - i * bits % 8));
    }
    window = _mm256_broadcastsi128_si256(load16(windows));
    factor = _mm256_broadcastsi128_si256(load16(factors));
  }

  static CDNA_INLINE char mask_of(uint32_t bits) { return static_cast<char>((1U << bits) - 1); }
  static CDNA_INLINE __m128i load16(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }

  // Two groups of 8 codes, as words: each code's two bytes are multiplied until the code begins the upper one.
  CDNA_INLINE __m256i load_groups(const uint8_t* first, const uint8_t* second) const {
    const __m128i one = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(first));
    const __m128i other = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(second));
    const __m256i windows = _mm256_shuffle_epi8(_mm256_set_m128i(other, one), window);
    return _mm256_srli_epi16(_mm256_mullo_epi16(windows, factor), 8);
  }

  CDNA_INLINE __m256i load(const uint8_t* codes) const {
    if (bits == 8) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
    const __m256i even = load_groups(codes, codes + 2 * bits);
    const __m256i odd = load_groups(codes + bits, codes + 3 * bits);
    return _mm256_and_si256(_mm256_packus_epi16(even, odd), mask);
  }

  uint32_t bits;
  __m256i mask;
  __m256i window;
  __m256i factor;
};

// What a look-up of 32 codes gives is in the order of unpacking: columns 0 to 7 and 16 to 23, then the others.

// 64 entries as four times 16: a shuffle gives 0 where the upper bit of a number is set.
struct ShuffledWords {
  explicit CDNA_INLINE ShuffledWords(const uint8_t (&planes)[2][256]) {
    for (int i = 0; i < 4; ++i) {
      low[i] = _mm256_broadcastsi128_si256(ByteCodes::load16(planes[0] + 16 * i));
      high[i] = _mm256_broadcastsi128_si256(ByteCodes::load16(planes[1] + 16 * i));
    }
  }

  CDNA_INLINE void look_up(__m256i codes, __m256i (&words)[2]) const {
    __m256i lows = _mm256_setzero_si256();
    __m256i highs = lows;
    for (int i = 0; i < 4; ++i) {
      const __m256i place = _mm256_xor_si256(codes, _mm256_set1_epi8(static_cast<char>(16 * i)));
      const __m256i number = _mm256_adds_epu8(place, _mm256_set1_epi8(0x70));
      lows = _mm256_or_si256(lows, _mm256_shuffle_epi8(low[i], number));
      highs = _mm256_or_si256(highs, _mm256_shuffle_epi8(high[i], number));
    }
    words[0] = _mm256_unpacklo_epi8(lows, highs);
    words[1] = _mm256_unpackhi_epi8(lows, highs);
  }

  __m256i low[4];
  __m256i high[4];
};

struct GatheredWords {
  explicit GatheredWords(const uint8_t (&planes)[2][256]) {
    for (int i = 0; i < 256; ++i) entries[i] = planes[0][i] | planes[1][i] << 8;
  }

  CDNA_INLINE __m256i look_up(__m128i codes) const {
    const __m256i pairs = _mm256_cvtepu16_epi32(codes);
    const __m256i even = _mm256_i32gather_epi32(entries, _mm256_and_si256(pairs, _mm256_set1_epi32(255)), 4);
    const __m256i odd = _mm256_i32gather_epi32(entries, _mm256_srli_epi32(pairs, 8), 4);
    return _mm256_or_si256(even, _mm256_slli_epi32(odd, 16));
  }

  CDNA_INLINE void look_up(__m256i codes, __m256i (&words)[2]) const {
    const __m128i first = _mm256_castsi256_si128(codes);
    const __m128i second = _mm256_extracti128_si256(codes, 1);
    words[0] = look_up(_mm_unpacklo_epi64(first, second));
    words[1] = look_up(_mm_unpackhi_epi64(first, second));
  }

  int32_t entries[256];
};

// 16 entries.
struct NibblePlanes {
  explicit CDNA_INLINE NibblePlanes(const uint8_t (&planes)[2][256])
      : low(_mm256_broadcastsi128_si256(ByteCodes::load16(planes[0]))),
        high(_mm256_broadcastsi128_si256(ByteCodes::load16(planes[1]))) {}

  static CDNA_INLINE __m256i even_of(__m256i bytes) { return _mm256_and_si256(bytes, _mm256_set1_epi8(15)); }
  static CDNA_INLINE __m256i odd_of(__m256i bytes) { return even_of(_mm256_srli_epi16(bytes, 4)); }

  __m256i low;
  __m256i high;
};

// Lanes 0 to 3, and 4 to 7.
CDNA_INLINE __m256 two_scales(const float* scales) {
  return _mm256_set_m128(_mm_set1_ps(scales[1]), _mm_set1_ps(scales[0]));
}

}  // namespace

#endif
