// The loop with 16-byte vectors, and the choice.
#include "tools/bench/read_words.hpp"

#include "cdna/cpu.hpp"

namespace cdna::tools::bench {

std::uint64_t sum_of_words(std::span<const std::byte> bytes) {
#if defined(__x86_64__)
  static const bool has_avx512 = is_available(Isa::avx512);
  if (has_avx512) return sum_of_words_avx512(bytes);
#endif
  using Words = std::uint64_t __attribute__((vector_size(16)));
  return sum_in_vectors<Words, 8>(bytes);
}

}  // namespace cdna::tools::bench
