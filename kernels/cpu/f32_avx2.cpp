// The f32 products for AVX2, FMA and F16C: entries are looked up in tables of 16 bytes, plane by plane.
#include <immintrin.h>

#define CDNA_VECTOR_BYTES 32
#include "kernels/cpu/code_entries.h"
#include "kernels/cpu/code_planes_avx2.h"
#include "kernels/cpu/f32_table.h"

namespace {

CDNA_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return (F32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }

CDNA_INLINE F32 broadcast(float value) { return (F32)_mm256_set1_ps(value); }

// Entries of codes of 4 bits: a dword has eight codes, one for every other register.
struct NibbleEntries {
  static constexpr cdna_order kOrder = CDNA_ORDER_NIBBLES;

  struct Block {
    U32 codes[2];
  };

  explicit CDNA_INLINE NibbleEntries(const cdna_lookup& table) : floats(table.values) {}

  CDNA_INLINE Block block(const uint8_t* codes) const { return {{load<U32>(codes), load<U32>(codes + 32)}}; }

  CDNA_INLINE F32 entry(const Block& block, int r) const {
    return floats.look_up(block.codes[r % 2], static_cast<uint32_t>(r / 2 * 4));
  }

  static constexpr size_t block_bytes = 64;
  NibbleFloats floats;
};

// Entries whose bytes are found on ladders: Planes are those of WordPlanes or FloatPlanes.
template <uint32_t kIndexBits, template <uint32_t> class Planes>
struct LadderEntries {
  static constexpr cdna_order kOrder = CDNA_ORDER_EVEN_ODD;
  static constexpr bool kIsLong = true;

  struct Block {
    typename Planes<kIndexBits>::Words words[2][2];
  };

  template <size_t kPlanes>
  CDNA_INLINE LadderEntries(const cdna_lookup& table, const uint8_t (&of)[kPlanes][256])
      : block_bytes(8 * table.bits), bytes(table.bits), planes(of) {}

  CDNA_INLINE Block block(const uint8_t* from) const {
    __m256i codes[2];
    bytes.load_codes(from, codes);
    Block block;
    planes.look_up(codes, block.words);
    return block;
  }

  size_t block_bytes;
  ByteCodes<kIndexBits> bytes;
  Planes<kIndexBits> planes;
};

// Every other one of 16 binary16 numbers. The bits of a normal one without the sign, 13 further up, are an f32 whose
// exponent is 112 too small.
CDNA_INLINE __m256i without_exponent(__m256i words, bool odd) {
  const __m256i moved = odd ? _mm256_srai_epi32(words, 3) : _mm256_madd_epi16(words, _mm256_set1_epi32(1 << 13));
  return _mm256_and_si256(moved, _mm256_set1_epi32(static_cast<int>(0x8FFFE000)));
}

// Whether a register of a block has the odd columns.
constexpr bool is_odd(int r) { return r / 2 % 2 != 0; }

// Entries that are normal binary16 numbers. An exponent 96 larger is 2^16 too small, and stands in bits that are free.
template <uint32_t kIndexBits>
struct HalfEntries : LadderEntries<kIndexBits, WordPlanes> {
  using Base = LadderEntries<kIndexBits, WordPlanes>;
  using Block = typename Base::Block;

  explicit CDNA_INLINE HalfEntries(const cdna_lookup& table) : Base(table, table.half_planes) {}

  CDNA_INLINE F32 entry(const Block& block, int r) const {
    return (F32)_mm256_or_si256(moved(block, r), _mm256_set1_epi32(96 << 23));
  }

  CDNA_INLINE F32 whole_entry(const Block& block, int r) const {
    return (F32)_mm256_add_epi32(moved(block, r), _mm256_set1_epi32(112 << 23));
  }

  static CDNA_INLINE __m256i moved(const Block& block, int r) {
    return without_exponent(block.words[r % 2][r / 4], is_odd(r));
  }
};

// Entries on lines. Exponents are 112 too small throughout, which makes no sum subnormal: each is a multiple of
// 2^-24 / 2^112, so that one below 2^-14 / 2^112 would be no normal entry.
struct PwlEntries {
  static constexpr cdna_order kOrder = CDNA_ORDER_EVEN_ODD;
  static constexpr bool kIsLong = true;
  static constexpr size_t block_bytes = 64;

  // Of 16 columns: the lines' bases and steps, and how far on the line.
  struct Words {
    __m256i base;
    __m256i step;
    __m256i number;
  };
  struct Block {
    Words words[2][2];
  };

  explicit CDNA_INLINE PwlEntries(const cdna_lookup& table) {
    for (int plane = 0; plane < 4; ++plane)
      planes[plane] = _mm256_broadcastsi128_si256(load_lane(table.pwl_planes[plane]));
  }

  CDNA_INLINE Block block(const uint8_t* from) const {
    Block block;
    for (int i = 0; i < 2; ++i) {
      const __m256i codes = load<__m256i>(from + 32 * i);
      const __m256i lines = NibblePlanes::odd_of(codes);
      const __m256i numbers = NibblePlanes::even_of(codes);
      __m256i found[4];
      for (int plane = 0; plane < 4; ++plane) found[plane] = _mm256_shuffle_epi8(planes[plane], lines);
      block.words[i][0] = {_mm256_unpacklo_epi8(found[0], found[1]), _mm256_unpacklo_epi8(found[2], found[3]),
                           _mm256_unpacklo_epi8(numbers, _mm256_setzero_si256())};
      block.words[i][1] = {_mm256_unpackhi_epi8(found[0], found[1]), _mm256_unpackhi_epi8(found[2], found[3]),
                           _mm256_unpackhi_epi8(numbers, _mm256_setzero_si256())};
    }
    return block;
  }

  CDNA_INLINE F32 entry(const Block& block, int r) const { return with_exponent(block, r, 96); }
  CDNA_INLINE F32 whole_entry(const Block& block, int r) const { return with_exponent(block, r, 112); }

  static CDNA_INLINE F32 with_exponent(const Block& block, int r, int more) {
    const __m256i rounded = (__m256i)rounded_to_11_bits(sum(block.words[r % 2][r / 4], is_odd(r)));
    return (F32)_mm256_add_epi32(rounded, _mm256_set1_epi32(more << 23));
  }

  static CDNA_INLINE F32 sum(const Words& words, bool odd) {
    const __m256i number =
        odd ? _mm256_srli_epi32(words.number, 16) : _mm256_and_si256(words.number, _mm256_set1_epi32(15));
    return multiply_add((F32)_mm256_cvtepi32_ps(number), (F32)without_exponent(words.step, odd),
                        (F32)without_exponent(words.base, odd));
  }

  // To nearest, ties to even (Dekker 1971).
  static CDNA_INLINE F32 rounded_to_11_bits(F32 sum) {
    const F32 large = sum * broadcast(8193.0F);
    return large - (large - sum);
  }

  __m256i planes[4];
};

// Entries that are f32.
template <uint32_t kIndexBits>
struct FloatEntries : LadderEntries<kIndexBits, FloatPlanes> {
  using Base = LadderEntries<kIndexBits, FloatPlanes>;
  using Block = typename Base::Block;

  explicit CDNA_INLINE FloatEntries(const cdna_lookup& table) : Base(table, table.planes) {}

  CDNA_INLINE F32 entry(const Block& block, int r) const {
    const FloatWords& words = block.words[r % 2][r / 4];
    return r / 2 % 2 == 0 ? words.even() : words.odd();
  }
};

template <class Body>
CDNA_INLINE void with_entries(const cdna_lookup& table, const Body& body) {
  if (table.bits == 4) return body(NibbleEntries(table));
  if (table.is_pwl != 0) return body(PwlEntries(table));
  // A block of 8 bytes is less than the unpacker reads.
  if (table.bits == 1) return body(TableEntries<CDNA_ORDER_EVEN_ODD>(table));
  with_index_bits(
      table.bits, [&](auto index) __attribute__((always_inline)) {
        if (table.entry_unit != 1.0F) return body(HalfEntries<index.kValue>(table));
        // 64 steps for 32 codes would be more work than 32 loads.
        if constexpr (index.kValue == 8)
          body(TableEntries<CDNA_ORDER_EVEN_ODD>(table));
        else
          body(FloatEntries<index.kValue>(table));
      });
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
