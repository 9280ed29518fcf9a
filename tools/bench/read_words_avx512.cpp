// The loop with 64-byte vectors.
#include "tools/bench/read_words.hpp"

namespace cdna::tools::bench {

std::uint64_t sum_of_words_avx512(std::span<const std::byte> bytes) {
  using Words = std::uint64_t __attribute__((vector_size(64)));
  return sum_in_vectors<Words, 4>(bytes);
}

}  // namespace cdna::tools::bench
