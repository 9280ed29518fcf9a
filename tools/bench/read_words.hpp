// Reading memory as fast as it comes: the sum of its 64-bit words, the least that can be done with them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace cdna::tools::bench {

// Of whole words; up to 511 bytes at the end are left out. With the widest vectors that help.
std::uint64_t sum_of_words(std::span<const std::byte> bytes);

#if defined(__x86_64__)
// Only where is_available(Isa::avx512).
std::uint64_t sum_of_words_avx512(std::span<const std::byte> bytes);
#endif

// The loop of both: `Vector` is a vector of 64-bit words, `count` of them are summed side by side.
template <class Vector, std::size_t count>
inline std::uint64_t sum_in_vectors(std::span<const std::byte> bytes) {
  Vector sums[count]{};
  for (std::size_t at = 0; bytes.size() - at >= sizeof sums; at += sizeof sums) {
#pragma GCC unroll 8
    for (std::size_t i = 0; i < count; ++i) {
      Vector words;
      std::memcpy(&words, bytes.data() + at + i * sizeof words, sizeof words);
      sums[i] += words;
    }
  }
  std::uint64_t total = 0;
  for (const Vector& sum : sums) {
    for (std::size_t lane = 0; lane < sizeof(Vector) / 8; ++lane) total += sum[lane];
  }
  return total;
}

}  // namespace cdna::tools::bench
