// The loop of AVX-512 BF16: 12 independent sums cover a latency of 6 cycles at two products a cycle.
#include <immintrin.h>

#include <cstdint>

#include "tools/bench/bf16_peak.hpp"

namespace cdna::tools::bench {
namespace {

// Not worked out beforehand, and the sum in a register: g++ 12 keeps an array of them in memory.
inline __attribute__((always_inline)) void add_products(__m512& sum, __m512i values) {
  asm volatile("vdpbf16ps %1, %1, %0" : "+v"(sum) : "v"(values));
}

}  // namespace

std::uint64_t run_vector_products(std::uint64_t rounds) {
  constexpr std::uint64_t kSums = 12;
  constexpr std::uint64_t kOperations = 2 * 32;      // Of one instruction.
  const __m512i values = _mm512_set1_epi16(0x3DCD);  // About 0.1.
  __m512 a{}, b{}, c{}, d{}, e{}, f{}, g{}, h{}, i{}, j{}, k{}, l{};
  for (std::uint64_t round = 0; round < rounds; ++round) {
    add_products(a, values), add_products(b, values), add_products(c, values), add_products(d, values);
    add_products(e, values), add_products(f, values), add_products(g, values), add_products(h, values);
    add_products(i, values), add_products(j, values), add_products(k, values), add_products(l, values);
  }
  return rounds * kSums * kOperations;
}

}  // namespace cdna::tools::bench
