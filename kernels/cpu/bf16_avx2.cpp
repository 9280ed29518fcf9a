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
#include "kernels/cpu/code_planes_avx2.h"

namespace {

// Entries that are f32 at 64 codes: even and odd columns of vector i of their words apart.
template <uint32_t kIndexBits>
struct Floats {
  struct Found {
    CDNA_INLINE F32 even(size_t i) const { return words[i % 2][i / 2].even(); }
    CDNA_INLINE F32 odd(size_t i) const { return words[i % 2][i / 2].odd(); }
    FloatWords words[2][2];
  };

  explicit CDNA_INLINE Floats(const cdna_lookup& table) : bytes(table.bits), planes(table.planes) {}

  CDNA_INLINE Found look_up(const uint8_t* from) const {
    __m256i codes[2];
    Found found;
    bytes.load_codes(from, codes);
    planes.look_up(codes, found.words);
    return found;
  }

  ByteCodes<kIndexBits> bytes;
  FloatPlanes<kIndexBits> planes;
};

// Of 256, four ladders would be 64 steps for 32 codes: 1.85 G weights/s, with 64 loads 1.7, so 2.5.
template <>
struct Floats<8> {
  struct Found {
    CDNA_INLINE F32 even(size_t i) const { return gathered(pairs[i] & 255); }
    CDNA_INLINE F32 odd(size_t i) const { return gathered(pairs[i] >> 8); }
    CDNA_INLINE F32 gathered(U32 codes) const { return (F32)_mm256_i32gather_ps(values, (__m256i)codes, 4); }

    const float* values;
    U32 pairs[4];
  };

  explicit CDNA_INLINE Floats(const cdna_lookup& table) : values(table.values) {}

  CDNA_INLINE Found look_up(const uint8_t* codes) const {
    Found found;
    found.values = values;
    for (size_t i = 0; i < 4; ++i) {
      const __m128i first = load_lane(codes + i % 2 * 32);
      const __m128i second = load_lane(codes + i % 2 * 32 + 16);
      const __m128i words = i / 2 == 0 ? _mm_unpacklo_epi64(first, second) : _mm_unpackhi_epi64(first, second);
      found.pairs[i] = (U32)_mm256_cvtepu16_epi32(words);
    }
    return found;
  }

  const float* values;
};

template <uint32_t kIndexBits>
struct ByteEntries {
  static constexpr bool kNibbles = false;

  explicit CDNA_INLINE ByteEntries(const cdna_lookup& table)
      : shape(shape_of<kNibbles>(table.bits, ByteCodes<kIndexBits>::load_bytes(table.bits))),
        bytes(table.bits),
        planes(table.bf16_planes),
        floats(table) {}

  // In packed order: of both halves of 32 columns first what unpacking gives first.
  CDNA_INLINE void words(const uint8_t* codes, U32* out) const {
    __m256i numbers[2];
    __m256i found[2][2];
    bytes.load_codes(codes, numbers);
    planes.look_up(numbers, found);
    for (size_t i = 0; i < 4; ++i) out[i] = (U32)found[i % 2][i / 2];
  }

  CDNA_INLINE void scaled_words(const uint8_t* codes, const float* scales, U32* out) const {
    const auto found = floats.look_up(codes);
    for (size_t i = 0; i < 4; ++i) {
      const F32 lanes = lane_scales<false>(scales, i % 2);
      out[i] = round_pairs(found.even(i) * lanes, found.odd(i) * lanes);
    }
  }

  StepShape shape;
  ByteCodes<kIndexBits> bytes;
  WordPlanes<kIndexBits> planes;
  Floats<kIndexBits> floats;
};

struct NibbleEntries {
  static constexpr bool kNibbles = true;

  explicit CDNA_INLINE NibbleEntries(const cdna_lookup& table)
      : shape(shape_of<kNibbles>(4, 64)), entries(table.bf16_planes), floats(table.values) {}

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
      const F32 lanes = lane_scales<true>(scales, half);
      for (uint32_t i = 0; i < 4; ++i)
        out[2 * i + half] =
            round_pairs(floats.look_up(eight, 4 * i) * lanes, floats.look_up(eight, 4 * i + 16) * lanes);
    }
  }

  StepShape shape;
  NibblePlanes entries;
  NibbleFloats floats;
};

}  // namespace

#include "kernels/cpu/bf16_body.h"

const cdna_bf16_kernels* cdna_bf16_kernels_avx2(void) { return &kKernels; }
