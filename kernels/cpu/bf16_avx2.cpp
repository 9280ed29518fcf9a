// The bf16 kernels for AVX2 and FMA: products and sums of f32.
#include <immintrin.h>

#define CDNA_VECTOR_BYTES 32
#include "kernels/cpu/bf16_vectors.h"

namespace {

// Of 16 vectors 8 are sums, 4 of b, two of a.
constexpr size_t kTileRows = 4;
constexpr size_t kTileVectors = 2;

CDNA_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return (F32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }

}  // namespace

#include "kernels/cpu/bf16_split.h"
#include "kernels/cpu/code_words_avx2.h"

namespace {

// A vector of bytes' words has the columns of one scale, one of nibbles' words those of two.
template <bool kNibbles>
CDNA_INLINE F32 lane_scales(const float* scales, size_t i) {
  return kNibbles ? (F32)two_scales(scales + 2 * i) : broadcast(scales[i]);
}

// The first and second numbers of a vector of words, found by codes below 256.
CDNA_INLINE U32 scaled_pairs(const float* values, __m256i first, __m256i second, F32 lanes) {
  return round_pairs((F32)_mm256_i32gather_ps(values, first, 4) * lanes,
                     (F32)_mm256_i32gather_ps(values, second, 4) * lanes);
}

template <class Words>
struct ByteEntries {
  static constexpr bool kNibbles = false;

  explicit CDNA_INLINE ByteEntries(const cdna_lookup& table)
      : values(table.values),
        shape(shape_of<kNibbles>(table.bits, 64)),
        bytes(table.bits),
        entries(table.bf16_planes) {}

  // In packed order: of both halves of 32 columns first what unpacking gives first.
  CDNA_INLINE void words(const uint8_t* codes, U32* out) const {
    for (uint32_t half = 0; half < 2; ++half) {
      __m256i found[2];
      entries.look_up(bytes.load(codes + half * 4 * bytes.bits), found);
      out[half] = (U32)found[0];
      out[2 + half] = (U32)found[1];
    }
  }

  CDNA_INLINE void scaled_words(const uint8_t* codes, const float* scales, U32* out) const {
    for (uint32_t half = 0; half < 2; ++half) {
      const __m256i numbers = bytes.load(codes + half * 4 * bytes.bits);
      const __m128i one = _mm256_castsi256_si128(numbers);
      const __m128i other = _mm256_extracti128_si256(numbers, 1);
      const __m256i pairs[2] = {_mm256_cvtepu16_epi32(_mm_unpacklo_epi64(one, other)),
                                _mm256_cvtepu16_epi32(_mm_unpackhi_epi64(one, other))};
      for (uint32_t i = 0; i < 2; ++i)
        out[2 * i + half] = scaled_pairs(values, _mm256_and_si256(pairs[i], _mm256_set1_epi32(255)),
                                         _mm256_srli_epi32(pairs[i], 8), broadcast(scales[half]));
    }
  }

  const float* values;
  StepShape shape;
  ByteCodes bytes;
  Words entries;
};

struct NibbleEntries {
  static constexpr bool kNibbles = true;

  explicit CDNA_INLINE NibbleEntries(const cdna_lookup& table)
      : values(table.values), shape(shape_of<kNibbles>(4, 64)), entries(table.bf16_planes) {}

  // Even nibbles are numbers 0 and 2 of the four of each word, odd ones 1 and 3.
  CDNA_INLINE void look_up(__m256i codes, U32& first, U32& third) const {
    const __m256i low = _mm256_shuffle_epi8(entries.low, codes);
    const __m256i high = _mm256_shuffle_epi8(entries.high, codes);
    const __m256i upper = _mm256_set1_epi16(static_cast<int16_t>(0xFF00));
    first = (U32)_mm256_blendv_epi8(low, _mm256_slli_epi16(high, 8), upper);
    third = (U32)_mm256_blendv_epi8(_mm256_srli_epi16(low, 8), high, upper);
  }

  CDNA_INLINE void words(const uint8_t* codes, U32* out) const {
    for (uint32_t half = 0; half < 2; ++half) {
      const __m256i four = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * half));
      look_up(NibblePlanes::even_of(four), out[half], out[4 + half]);
      look_up(NibblePlanes::odd_of(four), out[2 + half], out[6 + half]);
    }
  }

  CDNA_INLINE void scaled_words(const uint8_t* codes, const float* scales, U32* out) const {
    for (uint32_t half = 0; half < 2; ++half) {
      const U32 eight = load<U32>(codes + 32 * half);
      for (uint32_t i = 0; i < 4; ++i)
        out[2 * i + half] = scaled_pairs(values, (__m256i)(eight >> 4 * i & 15), (__m256i)(eight >> (16 + 4 * i) & 15),
                                         lane_scales<true>(scales, half));
    }
  }

  const float* values;
  StepShape shape;
  NibblePlanes entries;
};

template <class Body>
CDNA_INLINE void with_entries(uint32_t bits, const Body& body) {
  if (bits == 4) return body(Type<NibbleEntries>());
  if (bits <= 6) return body(Type<ByteEntries<ShuffledWords>>());
  body(Type<ByteEntries<GatheredWords>>());
}

}  // namespace

#include "kernels/cpu/bf16_body.h"

const cdna_bf16_kernels* cdna_bf16_kernels_avx2(void) { return &kKernels; }
