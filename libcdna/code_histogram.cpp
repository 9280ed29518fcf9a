// Codes counted byte by byte where bytes hold whole ones, else bit by bit.
#include "libcdna/code_histogram.hpp"

#include <array>
#include <cmath>

namespace cdna {
namespace {

constexpr std::size_t kBytesWorthCounting = 4096;  // Adding up 256 counters costs as much.

}  // namespace

void CodeHistogram::add(std::span<const std::byte> codes, std::uint64_t row_count, std::uint64_t row_codes) {
  if (8 % bits_ == 0 && codes.size() >= kBytesWorthCounting) {
    count_bytes(codes, row_count * row_codes);
  } else {
    count_bits(codes, row_count, row_codes);
  }
}

// The unused bits at the end of a row are zero (E4): no codes 0.
void CodeHistogram::count_bytes(std::span<const std::byte> codes, std::uint64_t code_count) {
  std::array<std::uint64_t, 256> counts{};
  for (const std::byte byte : codes) ++counts[std::to_integer<std::size_t>(byte)];
  for (std::uint32_t byte = 0; byte < counts.size(); ++byte) {
    for (std::uint32_t at = 0; at < 8; at += bits_) counts_[byte >> at & ((1U << bits_) - 1)] += counts[byte];
  }
  counts_[0] -= codes.size() * (8 / bits_) - code_count;
}

void CodeHistogram::count_bits(std::span<const std::byte> codes, std::uint64_t row_count, std::uint64_t row_codes) {
  const std::size_t row_bytes = codes.size() / row_count;
  for (std::uint64_t row = 0; row < row_count; ++row) {
    const std::byte* next = codes.data() + row * row_bytes;
    std::uint32_t window = 0;
    std::uint32_t held = 0;  // Bits in the window.
    for (std::uint64_t i = 0; i < row_codes; ++i) {
      for (; held < bits_; held += 8) window |= std::to_integer<std::uint32_t>(*next++) << held;
      ++counts_[window & ((1U << bits_) - 1)];
      window >>= bits_;
      held -= bits_;
    }
  }
}

double CodeHistogram::entropy_bits() const {
  double total = 0;
  for (const std::uint64_t count : counts_) total += static_cast<double>(count);
  double entropy = 0;
  for (const std::uint64_t count : counts_) {
    const double share = static_cast<double>(count) / total;
    if (count != 0) entropy -= share * std::log2(share);
  }
  return entropy;
}

}  // namespace cdna
