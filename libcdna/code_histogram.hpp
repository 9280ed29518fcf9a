// How often each code of a tensor occurs, of packed codes of any width, and the entropy of that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace cdna {

// How far the recorded entropy may lie from the one computed (spec/format.md, D4), in bits.
inline constexpr double kEntropyTolerance = 1e-6;

class CodeHistogram {
 public:
  // Requires: bits 1..16.
  explicit CodeHistogram(std::uint32_t bits) : bits_(bits), counts_(std::size_t{1} << bits) {}

  // Counts rows of `row_codes` codes, each padded to whole bytes with zero bits (spec/format.md, 8.2).
  // Requires: codes.size() == row_count * ceil(row_codes * bits / 8), row_count >= 1.
  void add(std::span<const std::byte> codes, std::uint64_t row_count, std::uint64_t row_codes);

  // -Σ p log2 p, in bits per code; 0 without codes.
  double entropy_bits() const;

 private:
  void count_bytes(std::span<const std::byte> codes, std::uint64_t code_count);
  void count_bits(std::span<const std::byte> codes, std::uint64_t row_count, std::uint64_t row_codes);

  std::uint32_t bits_;
  std::vector<std::uint64_t> counts_;  // [2^bits]
};

}  // namespace cdna
