// The f32 products for any CPU.
#define CDNA_VECTOR_BYTES 16
#include "kernels/cpu/f32_table.h"

#ifdef __ARM_NEON
#include <arm_neon.h>
#else
#include "kernels/cpu/f32_fma.h"
#endif

namespace {

CDNA_INLINE F32 multiply_add(F32 a, F32 b, F32 c) {
#ifdef __ARM_NEON
  return (F32)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return emulated_multiply_add(a, b, c);
#endif
}

CDNA_INLINE F32 broadcast(float value) { return F32{value, value, value, value}; }

// Four lanes.
template <bool kNibbles>
CDNA_INLINE F32 lane_scales(const float* scales, size_t s) {
  return broadcast(scales[kNibbles ? s : s / 2]);
}

template <class Body>
CDNA_INLINE void with_entries(const cdna_lookup& table, const Body& body) {
  if (table.bits == 4) return body(TableEntries<CDNA_ORDER_NIBBLES>(table));
  body(TableEntries<CDNA_ORDER_EVEN_ODD>(table));
}

void look_up(const cdna_lookup* table, const uint8_t* numbers, size_t count, size_t repeat, float* out) {
  look_up_one_by_one(table, numbers, count, repeat, out);
}

constexpr size_t kAddRows = 4;
constexpr size_t kTileVectors = 4;
constexpr size_t tile_rows(size_t) { return 4; }

}  // namespace

#include "kernels/cpu/f32_body.h"

const cdna_f32_kernels* cdna_f32_kernels_baseline(void) { return &kKernels; }
