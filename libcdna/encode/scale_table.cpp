// Powers of two, by multiplication: the same bits everywhere.
#include "libcdna/encode/scale_table.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace cdna {
namespace {

constexpr double kRoot32 = 1.0218971486541166;  // 2^(1/32)

constexpr std::uint32_t kEntriesMaxSigned = 32;
constexpr std::uint32_t kNegative = 128;

// [first, last] = powers of `step`, the last one being 2^(1/4).
void fill_powers(cdna_scale_table& table, std::uint32_t last, double step) {
  table.first = 1;
  table.last = last;
  double value = 1.189207115002721;  // 2^(1/4)
  for (std::uint32_t i = last; i >= 1; --i, value /= step) {
    table.values[i] = static_cast<float>(value);
    table.inverses[i] = 1 / table.values[i];
  }
}

cdna_scale_table make_positive() {
  cdna_scale_table table{};
  fill_powers(table, 255, kRoot32);
  return table;
}

cdna_scale_table make_signed() {
  cdna_scale_table table{};
  fill_powers(table, kNegative - 1, kRoot32 * kRoot32);
  table.negative = kNegative;
  for (std::uint32_t i = 1; i < kNegative; ++i) {
    table.values[kNegative + i] = -table.values[i];
    table.inverses[kNegative + i] = -table.inverses[i];
  }
  return table;
}

}  // namespace

const cdna_scale_table& scale_table_for(std::uint32_t entries) {
  static const cdna_scale_table positive = make_positive();
  static const cdna_scale_table both = make_signed();
  return entries <= kEntriesMaxSigned ? both : positive;
}

std::uint32_t scale_number(const cdna_scale_table& table, float magnitude) {
  const float* const begin = table.values + table.first;
  const float* const end = table.values + table.last;  // The last one takes all above it.
  return static_cast<std::uint32_t>(std::lower_bound(begin, end, magnitude) - table.values);
}

std::uint32_t start_of_group(const cdna_codebook_kernels& kernels, const cdna_scale_table& table,
                             std::span<const float> values) {
  const std::uint32_t bits = kernels.max_magnitude(values.data(), values.size());
  if (bits == 0) return 0;
  const auto magnitude = std::bit_cast<float>(bits);
  const std::uint32_t number = scale_number(table, magnitude);
  if (table.negative == 0) return number;
  const auto largest =
      std::find_if(values.begin(), values.end(), [magnitude](float v) { return std::abs(v) == magnitude; });
  return std::signbit(*largest) ? table.negative + number : number;
}

std::uint32_t scale_of_group(const cdna_codebook_kernels& kernels, const cdna_codebook& codebook,
                             const cdna_scale_table& table, std::span<const float> values) {
  const std::uint32_t start = start_of_group(kernels, table, values);
  return start == 0 ? 0 : kernels.search_scale(&codebook, &table, values.data(), values.size(), start);
}

}  // namespace cdna
