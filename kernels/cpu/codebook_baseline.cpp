// The codebook kernels for any CPU.
#define CDNA_VECTOR_BYTES 16
#include "kernels/cpu/codebook_vectors.h"

namespace {

CDNA_INLINE F32 gather_floats(const float* table, I32 numbers) {
  F32 out;
  for (int lane = 0; lane < kLanes; ++lane) out[lane] = table[numbers[lane]];
  return out;
}

CDNA_INLINE I32 gather_codes(const int32_t* table, I32 numbers) {
  I32 out;
  for (int lane = 0; lane < kLanes; ++lane) out[lane] = table[numbers[lane]];
  return out;
}

}  // namespace

#include "kernels/cpu/codebook_cells.h"

const cdna_codebook_kernels* cdna_codebook_kernels_baseline(void) { return &kKernels; }
