// Counts in several tables, and a logarithm that no libm has a say in.
#include "libcdna/encode/entropy.hpp"

#include <bit>

namespace cdna {
namespace {

// log2 of a positive normal number: its exponent, and 2 atanh((m - 1) / (m + 1)) / ln 2 for m within
// sqrt(1/2)..sqrt(2); the series' next term is below 2^-60.
double log2_of(double x) {
  constexpr double kInverseLn2 = 1.4426950408889634;
  constexpr double kSqrt2 = 1.4142135623730951;
  const auto bits = std::bit_cast<std::uint64_t>(x);
  auto exponent = static_cast<double>(static_cast<std::int64_t>(bits >> 52) - 1023);
  double m = std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFFULL) | 0x3FF0000000000000ULL);
  if (m > kSqrt2) {
    m /= 2;
    exponent += 1;
  }
  const double t = (m - 1) / (m + 1);
  const double square = t * t;
  double sum = 0;
  for (int k = 23; k >= 1; k -= 2) sum = sum * square + 1.0 / k;
  return exponent + 2 * kInverseLn2 * t * sum;
}

}  // namespace

void CodeCounts::add(std::span<const std::uint8_t> codes) {
  std::size_t i = 0;
  for (; i + 4 <= codes.size(); i += 4) {
    for (std::size_t part = 0; part < 4; ++part) ++parts_[part][codes[i + part]];
  }
  for (; i < codes.size(); ++i) ++parts_[0][codes[i]];
}

std::array<std::uint64_t, 256> CodeCounts::totals() const {
  std::array<std::uint64_t, 256> totals;
  for (std::size_t code = 0; code < totals.size(); ++code)
    totals[code] = parts_[0][code] + parts_[1][code] + parts_[2][code] + parts_[3][code];
  return totals;
}

double entropy_bits(const std::array<std::uint64_t, 256>& counts) {
  double total = 0;
  double sum = 0;
  for (const std::uint64_t count : counts) {
    if (count == 0) continue;
    const auto weight = static_cast<double>(count);
    total += weight;
    sum += weight * log2_of(weight);
  }
  if (total == 0) return 0;
  const double entropy = log2_of(total) - sum / total;
  return entropy > 0 ? entropy : 0;
}

}  // namespace cdna
