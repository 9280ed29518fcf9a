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

// Entries that are normal binary16 numbers. Their bits without the sign, 13 further up, are an f32 whose exponent is
// 112 too small: 96 more is 2^16 too small, and stands in bits that are free.
template <uint32_t kIndexBits>
struct HalfEntries : LadderEntries<kIndexBits, WordPlanes> {
  using Base = LadderEntries<kIndexBits, WordPlanes>;
  using Block = typename Base::Block;

  explicit CDNA_INLINE HalfEntries(const cdna_lookup& table) : Base(table, table.half_planes) {}

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
