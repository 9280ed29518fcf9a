// The f32 products for AVX2, FMA and F16C.
#include <immintrin.h>

#define CDNA_VECTOR_BYTES 32
#include "kernels/cpu/f32_table.h"

namespace {

CDNA_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return (F32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }

CDNA_INLINE F32 broadcast(float value) { return (F32)_mm256_set1_ps(value); }

CDNA_INLINE F32 spread_scales(const float* scales, int s) {
  const float first = scales[2 * s];
  const float second = scales[2 * s + 1];
  return F32{first, first, first, first, second, second, second, second};
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

template <class Body>
CDNA_INLINE void with_entries(const cdna_lookup& table, const Body& body) {
  if (table.bits == 4) return body(NibbleEntries(table));
  body(TableEntries<CDNA_ORDER_BYTES>(table));
}

void look_up(const cdna_lookup* table, const uint8_t* numbers, size_t count, size_t repeat, float* out) {
  look_up_one_by_one(table, numbers, count, repeat, out);
}

constexpr size_t kAddRows = 4;
constexpr size_t kTileVectors = 2;
constexpr size_t tile_rows(size_t) { return 4; }

}  // namespace

#include "kernels/cpu/f32_body.h"

const cdna_f32_kernels* cdna_f32_kernels_avx2(void) { return &kKernels; }
