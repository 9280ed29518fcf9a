// The loop of AVX-512 BF16: 16 independent sums cover a latency of 6 cycles at two products a cycle.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "tools/bench/bf16_peak.hpp"

namespace cdna::tools::bench {

std::uint64_t run_vector_products(std::uint64_t rounds) {
  constexpr std::size_t kSums = 16;
  constexpr std::uint64_t kOperations = 2 * 32;             // Of one instruction.
  const auto values = (__m512bh)_mm512_set1_epi16(0x3DCD);  // About 0.1.
  __m512 sums[kSums];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  for (std::uint64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
    for (std::size_t s = 0; s < kSums; ++s) {
      sums[s] = _mm512_dpbf16_ps(sums[s], values, values);
      asm volatile("" : "+v"(sums[s]));  // In a register, and not worked out beforehand.
    }
  }
  return rounds * kSums * kOperations;
}

}  // namespace cdna::tools::bench
