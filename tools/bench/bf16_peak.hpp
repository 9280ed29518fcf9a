// The most products of bf16 numbers that a core can do, by loops that do nothing else.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace cdna::tools::bench {

struct Bf16Peak {
  std::string_view instruction;  // "AMX tdpbf16ps", "AVX-512 vdpbf16ps". Static storage.
  // Does at least `rounds` times some products and sums and returns their number, each counting as 2 operations.
  std::uint64_t (*run)(std::uint64_t rounds) = nullptr;
};

// Of this machine's best instruction; nothing where it has none.
std::optional<Bf16Peak> bf16_peak();

#if defined(__x86_64__)
// Each only where is_available() says so: Isa::amx, Isa::avx512_bf16.
std::uint64_t run_tile_products(std::uint64_t rounds);
std::uint64_t run_vector_products(std::uint64_t rounds);
#endif

}  // namespace cdna::tools::bench
