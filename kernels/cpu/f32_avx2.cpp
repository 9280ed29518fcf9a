// The f32 products for AVX2, FMA and F16C: entries are looked up in tables of 16 bytes, plane by plane.
#include <immintrin.h>

#define CDNA_VECTOR_BYTES 32
#include "kernels/cpu/code_bits_avx2.h"
#include "kernels/cpu/f32_table.h"

namespace {

CDNA_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return (F32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }

CDNA_INLINE F32 broadcast(float value) { return (F32)_mm256_set1_ps(value); }

template <size_t kScales>
CDNA_INLINE F32 spread_scales(const float* scales, int s) {
  if constexpr (kScales == 2) return broadcast(scales[s]);
  return (F32)_mm256_set_m128(_mm_set1_ps(scales[2 * s + 1]), _mm_set1_ps(scales[2 * s]));
}

// Entries of codes of 4 bits: a dword has eight codes, one for every other register.
struct NibbleEntries {
  static constexpr cdna_order kOrder = CDNA_ORDER_NIBBLES;

  struct Block {
    U32 codes[2];
  };

  explicit CDNA_INLINE NibbleEntries(const cdna_lookup& table)
      : low(_mm256_loadu_ps(table.values)), high(_mm256_loadu_ps(table.values + 8)) {}

  CDNA_INLINE Block block(const uint8_t* codes) const { return {{load<U32>(codes), load<U32>(codes + 32)}}; }

  CDNA_INLINE F32 entry(const Block& block, int r) const {
    const U32 codes = block.codes[r % 2];
    const U32 numbers = codes >> static_cast<uint32_t>(r / 2 * 4);
    const U32 choice = codes << static_cast<uint32_t>(28 - r / 2 * 4);  // The sign is the code's upper bit.
    return (F32)_mm256_blendv_ps(_mm256_permutevar8x32_ps(low, (__m256i)numbers),
                                 _mm256_permutevar8x32_ps(high, (__m256i)numbers), (__m256)choice);
  }

  static constexpr size_t block_bytes = 64;
  __m256 low;
  __m256 high;
};

// A byte plane of 16 * kTables entries, as the differences of tables of 16.
//
// pshufb gives 0 for numbers below 0, and otherwise goes by their low 4 bits. So the exclusive or of the differences
// of tables 0, 1, ... at code, code - 16, ... is the entry of table code / 16. Codes above 127 are two such ladders:
// from 0 on those below 128, which are the others' negatives, and from 128 on.
template <size_t kTables>
struct ByteLadder {
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
template <size_t kTables, size_t kPlanes>
CDNA_INLINE void climb(const ByteLadder<kTables> (&planes)[kPlanes], const __m256i (&codes)[2],
                       __m256i (&out)[kPlanes][2]) {
  for (size_t plane = 0; plane < kPlanes; ++plane) out[plane][0] = out[plane][1] = _mm256_setzero_si256();
  const __m256i sixteen = _mm256_set1_epi8(16);
  __m256i at[2];
  CDNA_UNROLL(16)
  for (size_t table = 0; table < kTables; ++table) {
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

// Codes of 64 columns as bytes.
template <size_t kTables>
struct CodeBytes {
  explicit CDNA_INLINE CodeBytes(const cdna_lookup& table) : unpacker(table.bits == 8 ? 7 : table.bits) {}

  CDNA_INLINE void load_codes(const uint8_t* codes, __m256i (&out)[2]) const {
    if constexpr (kTables == 16) {
      for (int i = 0; i < 2; ++i) out[i] = load<__m256i>(codes + 32 * i);
    } else {
      unpacker.unpack(codes, out);
    }
  }

  WordUnpacker unpacker;
};

// Entries that are normal binary16 numbers. Their bits without the sign, 13 further up, are an f32 whose exponent is
// 112 too small: 96 more is 2^16 too small, and stands in bits that are free.
template <size_t kTables>
struct HalfEntries {
  static constexpr cdna_order kOrder = CDNA_ORDER_EVEN_ODD;
  static constexpr bool kIsLong = true;

  struct Block {
    __m256i words[2][2];  // Of each 32 columns the lower eight of each 16, then the upper.
  };

  explicit CDNA_INLINE HalfEntries(const cdna_lookup& table)
      : block_bytes(8 * table.bits),
        bytes(table),
        planes{ByteLadder<kTables>(table.half_planes[0]), ByteLadder<kTables>(table.half_planes[1])} {}

  CDNA_INLINE Block block(const uint8_t* from) const {
    __m256i codes[2];
    bytes.load_codes(from, codes);
    __m256i found[2][2];
    climb(planes, codes, found);
    Block block;
    for (int i = 0; i < 2; ++i) {
      block.words[i][0] = _mm256_unpacklo_epi8(found[0][i], found[1][i]);
      block.words[i][1] = _mm256_unpackhi_epi8(found[0][i], found[1][i]);
    }
    return block;
  }

  CDNA_INLINE F32 entry(const Block& block, int r) const {
    return (F32)_mm256_or_si256(without_exponent(block, r), _mm256_set1_epi32(96 << 23));
  }

  CDNA_INLINE F32 whole_entry(const Block& block, int r) const {
    return (F32)_mm256_add_epi32(without_exponent(block, r), _mm256_set1_epi32(112 << 23));
  }

  CDNA_INLINE __m256i without_exponent(const Block& block, int r) const {
    const __m256i words = block.words[r % 2][r / 4];
    const __m256i moved =
        r / 2 % 2 == 0 ? _mm256_madd_epi16(words, _mm256_set1_epi32(1 << 13)) : _mm256_srai_epi32(words, 3);
    return _mm256_and_si256(moved, _mm256_set1_epi32(static_cast<int>(0x8FFFE000)));
  }

  size_t block_bytes;
  CodeBytes<kTables> bytes;
  ByteLadder<kTables> planes[2];
};

// Entries that are f32.
template <size_t kTables>
struct FloatEntries {
  static constexpr cdna_order kOrder = CDNA_ORDER_EVEN_ODD;
  static constexpr bool kIsLong = true;

  struct Block {
    // Lower and upper words of each 32 columns: of the lower eight of each 16, then the upper.
    __m256i words[2][2][2];
  };

  explicit CDNA_INLINE FloatEntries(const cdna_lookup& table)
      : block_bytes(8 * table.bits),
        bytes(table),
        planes{ByteLadder<kTables>(table.planes[0]), ByteLadder<kTables>(table.planes[1]),
               ByteLadder<kTables>(table.planes[2]), ByteLadder<kTables>(table.planes[3])} {}

  CDNA_INLINE Block block(const uint8_t* from) const {
    __m256i codes[2];
    bytes.load_codes(from, codes);
    __m256i found[4][2];
    climb(planes, codes, found);
    Block block;
    for (int i = 0; i < 2; ++i) {
      for (int word = 0; word < 2; ++word) {
        block.words[i][word][0] = _mm256_unpacklo_epi8(found[2 * word][i], found[2 * word + 1][i]);
        block.words[i][word][1] = _mm256_unpackhi_epi8(found[2 * word][i], found[2 * word + 1][i]);
      }
    }
    return block;
  }

  CDNA_INLINE F32 entry(const Block& block, int r) const {
    const __m256i low = block.words[r % 2][0][r / 4];
    const __m256i high = block.words[r % 2][1][r / 4];
    if (r / 2 % 2 == 0) return (F32)_mm256_blend_epi16(low, _mm256_slli_epi32(high, 16), 0xAA);
    return (F32)_mm256_blend_epi16(_mm256_srli_epi32(low, 16), high, 0xAA);
  }

  size_t block_bytes;
  CodeBytes<kTables> bytes;
  ByteLadder<kTables> planes[4];
};

template <class Body>
CDNA_INLINE void with_entries(const cdna_lookup& table, const Body& body) {
  if (table.bits == 4) return body(NibbleEntries(table));
  if (table.bits < 4) return body(TableEntries<CDNA_ORDER_EVEN_ODD>(table));
  if (table.entry_unit == 1.0F) {
    // 64 steps for 32 codes would be more work than 32 loads.
    if (table.bits == 8) return body(TableEntries<CDNA_ORDER_EVEN_ODD>(table));
    if (table.bits == 7) return body(FloatEntries<8>(table));
    return body(FloatEntries<4>(table));
  }
  if (table.bits == 8) return body(HalfEntries<16>(table));
  if (table.bits == 7) return body(HalfEntries<8>(table));
  body(HalfEntries<4>(table));
}

void look_up(const cdna_lookup* table, const uint8_t* numbers, size_t count, size_t repeat, float* out) {
  look_up_one_by_one(table, numbers, count, repeat, out);
}

constexpr size_t kAddRows = 4;
constexpr size_t kTileVectors = 2;
constexpr size_t tile_rows(size_t) { return 6; }

}  // namespace

#include "kernels/cpu/f32_body.h"

const cdna_f32_kernels* cdna_f32_kernels_avx2(void) { return &kKernels; }
