// Pairs of bf16 for CPUs that multiply f32 only: widened, first and second numbers apart. Included by a file that has
// defined CDNA_VECTOR_BYTES and multiply_add(a, b, c).
#include "kernels/cpu/bf16_vectors.h"

namespace {

struct Pairs {
  F32 first;
  F32 second;
};

CDNA_INLINE Pairs pairs_of(U32 words) { return {first_of(words), second_of(words)}; }
CDNA_INLINE F32 dot(F32 sum, Pairs a, Pairs b) {
  return multiply_add(a.second, b.second, multiply_add(a.first, b.first, sum));
}
CDNA_INLINE U32 round_pairs(F32 first, F32 second) { return rounded(first) >> 16 | (rounded(second) & 0xFFFF0000U); }

}  // namespace
