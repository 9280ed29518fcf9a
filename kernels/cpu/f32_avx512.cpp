// The f32 products for AVX-512 (F, BW, VL, DQ, VBMI): tables stay in registers, and permutations look them up.
//
// Bytes of entries are looked up plane by plane, 64 codes at a time, and unpacked to numbers: binary16 needs two
// planes, f32 four. 16 entries fit into one register of f32.
#include <immintrin.h>

#define CDNA_VECTOR_BYTES 64
#include "kernels/cpu/code_entries.h"
#include "kernels/cpu/code_planes_avx512.h"
#include "kernels/cpu/f32_table.h"

namespace {

CDNA_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return (F32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }

CDNA_INLINE F32 broadcast(float value) { return (F32)_mm512_set1_ps(value); }

// Entries that are normal binary16 numbers. Their bits without the sign, 13 further up, are an f32 whose exponent is
// 112 too small: 96 more is 2^16 too small, and stands in bits that are free. (vcvtph2ps takes two steps more.)
template <uint32_t kIndexBits>
struct NormalHalfEntries {
  static constexpr cdna_order kOrder = CDNA_ORDER_EVEN_ODD;

  struct Block {
    __m512i low;
    __m512i high;
  };

  explicit CDNA_INLINE NormalHalfEntries(const cdna_lookup& table)
      : block_bytes(8 * table.bits),
        bytes(table.bits),
        low_plane(table.half_planes[0]),
        high_plane(table.half_planes[1]) {}

  CDNA_INLINE Block block(const uint8_t* from) const {
    const __m512i codes = bytes.load(from);
    const __m512i low = low_plane.look_up(codes);
    const __m512i high = high_plane.look_up(codes);
    return {_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)};
  }

  CDNA_INLINE F32 entry(const Block& block, int r) const {
    const __m512i words = r < 2 ? block.low : block.high;
    const __m512i shifted = _mm512_madd_epi16(words, _mm512_set1_epi32(r % 2 == 0 ? 1 << 13 : 1 << 29));
    // Bits of the first constant are those of the second.
    return (F32)_mm512_ternarylogic_epi32(shifted, _mm512_set1_epi32(0x70000000), _mm512_set1_epi32(0x30000000), 0xB8);
  }

  CDNA_INLINE F32 whole_entry(const Block& block, int r) const {
    return (F32)_mm512_add_epi32((__m512i)entry(block, r), _mm512_set1_epi32(16 << 23));
  }

  size_t block_bytes;
  ByteCodes<kIndexBits> bytes;
  Plane<kIndexBits> low_plane;
  Plane<kIndexBits> high_plane;
};

// 256 entries that are binary16, zeros and subnormal ones among them.
struct HalfEntries {
  static constexpr cdna_order kOrder = CDNA_ORDER_EVEN_ODD;

  struct Block {
    __m512i low;
    __m512i high;
  };

  explicit CDNA_INLINE HalfEntries(const cdna_lookup& table)
      : places(_mm512_load_si512(kCodesForHalves.places)),
        low_plane(table.half_planes[0]),
        high_plane(table.half_planes[1]) {}

  CDNA_INLINE Block block(const uint8_t* from) const {
    const __m512i codes = _mm512_permutexvar_epi8(places, _mm512_loadu_si512(from));
    const __m512i low = low_plane.look_up(codes);
    const __m512i high = high_plane.look_up(codes);
    return {_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)};
  }

  CDNA_INLINE F32 entry(const Block& block, int r) const {
    const __m512i halves = r < 2 ? block.low : block.high;
    return (F32)_mm512_cvtph_ps(r % 2 == 0 ? _mm512_castsi512_si256(halves) : _mm512_extracti64x4_epi64(halves, 1));
  }

  static constexpr size_t block_bytes = 64;
  __m512i places;
  Plane<8> low_plane;
  Plane<8> high_plane;
};

// The four planes of 64 entries to f32, dword j of each lane of codes to vector j.
struct WholeEntries {
  __m512i words[4];

  CDNA_INLINE F32 vector(int j) const {
    const __m512i low = words[j / 2];
    const __m512i high = words[2 + j / 2];
    return (F32)(j % 2 == 0 ? _mm512_unpacklo_epi16(low, high) : _mm512_unpackhi_epi16(low, high));
  }
};

template <uint32_t kIndexBits>
struct FloatPlanes {
  explicit CDNA_INLINE FloatPlanes(const cdna_lookup& table)
      : planes{Plane<kIndexBits>(table.planes[0]), Plane<kIndexBits>(table.planes[1]),
               Plane<kIndexBits>(table.planes[2]), Plane<kIndexBits>(table.planes[3])} {}

  CDNA_INLINE WholeEntries look_up(__m512i codes) const {
    __m512i bytes[4];
    for (int i = 0; i < 4; ++i) bytes[i] = planes[i].look_up(codes);
    return {{_mm512_unpacklo_epi8(bytes[0], bytes[1]), _mm512_unpackhi_epi8(bytes[0], bytes[1]),
             _mm512_unpacklo_epi8(bytes[2], bytes[3]), _mm512_unpackhi_epi8(bytes[2], bytes[3])}};
  }

  Plane<kIndexBits> planes[4];
};

// Entries that are f32.
template <uint32_t kIndexBits>
struct FloatEntries {
  static constexpr cdna_order kOrder = CDNA_ORDER_EVEN_ODD;
  using Block = WholeEntries;

  explicit CDNA_INLINE FloatEntries(const cdna_lookup& table)
      : block_bytes(8 * table.bits),
        unpacker(table.bits % 8, kCutsEvenOdd),
        even_odd(_mm512_load_si512(kCodesEvenOdd.places)),
        planes(table) {}

  CDNA_INLINE __m512i codes_of(const uint8_t* codes) const {
    if constexpr (kIndexBits == 8) return _mm512_permutexvar_epi8(even_odd, _mm512_loadu_si512(codes));
    return unpacker.unpack(codes);
  }

  CDNA_INLINE Block block(const uint8_t* codes) const { return planes.look_up(codes_of(codes)); }

  CDNA_INLINE F32 entry(const Block& block, int r) const { return block.vector(r); }

  size_t block_bytes;
  CodeUnpacker unpacker;
  __m512i even_odd;
  FloatPlanes<kIndexBits> planes;
};

// Entries of codes of 4 bits: a dword has eight codes, one for each register.
struct NibbleEntries {
  static constexpr cdna_order kOrder = CDNA_ORDER_NIBBLES;
  using Block = U32;

  explicit CDNA_INLINE NibbleEntries(const cdna_lookup& from) : table(_mm512_loadu_ps(from.values)) {}

  CDNA_INLINE Block block(const uint8_t* codes) const { return load<U32>(codes); }

  CDNA_INLINE F32 entry(const Block& block, int r) const {
    return (F32)_mm512_permutexvar_ps((__m512i)(block >> static_cast<uint32_t>(4 * r)), table);
  }

  static constexpr size_t block_bytes = 64;
  __m512 table;
};

template <class Body>
CDNA_INLINE void with_entries(const cdna_lookup& table, const Body& body) {
  if (table.bits == 4) return body(NibbleEntries(table));
  with_index_bits(
      table.bits, [&](auto index) __attribute__((always_inline)) {
        if (table.entry_unit != 1.0F) return body(NormalHalfEntries<index.kValue>(table));
        if constexpr (index.kValue == 8)
          if (table.is_half != 0) return body(HalfEntries(table));
        body(FloatEntries<index.kValue>(table));
      });
}

// The first `count` lanes.
CDNA_INLINE uint64_t first_lanes(size_t count) { return count < 64 ? (uint64_t{1} << count) - 1 : ~uint64_t{0}; }

// 64 >> shift numbers at a time, each 1 << shift times. Requires: shift <= 6.
CDNA_INLINE void look_up_vectors(const cdna_lookup& table, const uint8_t* numbers, size_t count, uint32_t shift,
                                 float* out) {
  const FloatPlanes<8> planes(table);
  // Byte b becomes float kCodesForDwords.places[b], of number that >> shift (in words, so that bits of the neighbour
  // have to go).
  const __m512i floats = _mm512_load_si512(kCodesForDwords.places);
  const __m512i shifted = _mm512_srl_epi16(floats, _mm_cvtsi32_si128(static_cast<int>(shift)));
  const __m512i places = _mm512_and_si512(shifted, _mm512_set1_epi8(static_cast<char>(63 >> shift)));
  for (size_t i = 0; i < count; i += 64 >> shift) {
    const __m512i codes = _mm512_maskz_loadu_epi8(first_lanes(count - i) & first_lanes(64 >> shift), numbers + i);
    const WholeEntries found = planes.look_up(_mm512_permutexvar_epi8(places, codes));
    const uint64_t left = first_lanes((count - i) << shift);
    for (int j = 0; j < 4; ++j)
      _mm512_mask_storeu_ps(out + (i << shift) + 16 * j, static_cast<__mmask16>(left >> (16 * j)),
                            (__m512)found.vector(j));
  }
}

void look_up(const cdna_lookup* table, const uint8_t* numbers, size_t count, size_t repeat, float* out) {
  if (repeat > 64 || (repeat & (repeat - 1)) != 0) return look_up_one_by_one(table, numbers, count, repeat, out);
  look_up_vectors(*table, numbers, count, static_cast<uint32_t>(__builtin_ctzll(repeat)), out);
}

constexpr size_t kAddRows = 4;
constexpr size_t kTileVectors = 4;
constexpr size_t tile_rows(size_t vectors) { return 16 / vectors; }

}  // namespace

#include "kernels/cpu/f32_body.h"

const cdna_f32_kernels* cdna_f32_kernels_avx512(void) { return &kKernels; }
