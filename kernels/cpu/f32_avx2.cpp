// The f32 products for AVX2, FMA and F16C: entries are looked up in tables of 16 bytes, plane by plane.
#include <immintrin.h>

#define CDNA_VECTOR_BYTES 32
#include "kernels/cpu/code_bits_avx2.h"
#include "kernels/cpu/f32_table.h"

namespace {

CDNA_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return (F32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }

CDNA_INLINE F32 broadcast(float value) { return (F32)_mm256_set1_ps(value); }

CDNA_INLINE F32 spread_scales(const float* scales, int s) {
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

// Which eight columns of 64 a register has.
constexpr int eight_of(int r) { return r % 4 * 2 + r / 4; }

// Entries that are binary16.
template <size_t kTables>
struct HalfEntries {
  static constexpr cdna_order kOrder = CDNA_ORDER_BYTES;
  static constexpr bool kIsLong = true;

  struct Block {
    __m256i words[2][2];  // Of each 32 columns those of eights 0 and 2, then 1 and 3.
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
    const int eight = eight_of(r);
    const __m256i words = block.words[eight / 4][eight % 2];
    return (F32)_mm256_cvtph_ps(eight % 4 < 2 ? _mm256_castsi256_si128(words) : _mm256_extracti128_si256(words, 1));
  }

  size_t block_bytes;
  CodeBytes<kTables> bytes;
  ByteLadder<kTables> planes[2];
};

// Entries that are f32.
template <size_t kTables>
struct FloatEntries {
  static constexpr cdna_order kOrder = CDNA_ORDER_BYTES;
  static constexpr bool kIsLong = true;

  struct Block {
    __m256i words[2][2][2];  // Lower and upper words of each 32 columns, of eights 0 and 2, then 1 and 3.
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
    const int eight = eight_of(r);
    const __m256i low = block.words[eight / 4][0][eight % 2];
    const __m256i high = block.words[eight / 4][1][eight % 2];
    const __m256i first = _mm256_unpacklo_epi16(low, high);
    const __m256i second = _mm256_unpackhi_epi16(low, high);
    return (F32)(eight % 4 < 2 ? _mm256_permute2x128_si256(first, second, 0x20)
                               : _mm256_permute2x128_si256(first, second, 0x31));
  }

  size_t block_bytes;
  CodeBytes<kTables> bytes;
  ByteLadder<kTables> planes[4];
};

template <class Body>
CDNA_INLINE void with_entries(const cdna_lookup& table, const Body& body) {
  if (table.bits == 4) return body(NibbleEntries(table));
  if (table.bits < 4) return body(TableEntries<CDNA_ORDER_BYTES>(table));
  if (table.is_half == 0) {
    // 64 steps for 32 codes would be more work than 32 loads.
    if (table.bits == 8) return body(TableEntries<CDNA_ORDER_BYTES>(table));
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
