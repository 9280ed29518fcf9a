// Code frequencies and their entropy.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace cdna {

// How often each code occurs.
class CodeCounts {
 public:
  void add(std::span<const std::uint8_t> codes);
  std::array<std::uint64_t, 256> totals() const;

 private:
  // A code that follows itself does not wait for its own count.
  std::array<std::array<std::uint64_t, 256>, 4> parts_{};
};

// -Σ p log2 p, in bits per code; 0 without codes. Computed with +, -, *, / only: the same bits everywhere.
double entropy_bits(const std::array<std::uint64_t, 256>& counts);

}  // namespace cdna
