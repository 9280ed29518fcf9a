// Powers of two, by division: the same bits everywhere.
#include "libcdna/encode/scale_table.hpp"

#include <algorithm>
#include <array>
#include <bit>

namespace cdna {
namespace {

constexpr double kRoot32 = 1.0218971486541166;   // 2^(1/32)
constexpr double kGreatest = 1.189207115002721;  // 2^(1/4)
constexpr std::uint32_t kEntriesMaxWithNegative = 32;
constexpr std::uint32_t kNegative = 128;
constexpr std::uint32_t kCellShift = 16;  // 23 - 7
constexpr std::size_t kGroupsAtATime = 128;

std::uint32_t cell_of(float magnitude) { return std::bit_cast<std::uint32_t>(magnitude) >> kCellShift; }

// 1 .. last are powers of `step`, up to `greatest`.
void fill_powers(cdna_scale_table& table, std::uint32_t last, double step, double greatest) {
  table.first = 1;
  table.last = last;
  double value = greatest;
  for (std::uint32_t i = last; i >= 1; --i, value /= step) {
    table.values[i] = static_cast<float>(value);
    table.inverses[i] = 1 / table.values[i];
  }
}

}  // namespace

const ScaleTable& ScaleTable::of(std::uint32_t entries) {
  static const ScaleTable positive(false);
  static const ScaleTable both(true);
  return entries <= kEntriesMaxWithNegative ? both : positive;
}

const cdna_scale_table& ScaleTable::for_rows() {
  static const cdna_scale_table rows = [] {
    cdna_scale_table table{};
    fill_powers(table, CDNA_SCALE_CANDIDATES, kRoot32, kRoot32 * kRoot32 * kRoot32 * kRoot32);
    table.values[kRowStart] = 1;  // To the bit.
    table.inverses[kRowStart] = 1;
    return table;
  }();
  return rows;
}

ScaleTable::ScaleTable(bool with_negative) {
  fill_powers(table_, with_negative ? kNegative - 1 : 255, with_negative ? kRoot32 * kRoot32 : kRoot32, kGreatest);
  if (with_negative) {
    table_.negative = kNegative;
    for (std::uint32_t i = 1; i < kNegative; ++i) {
      table_.values[kNegative + i] = -table_.values[i];
      table_.inverses[kNegative + i] = -table_.inverses[i];
    }
  }
  first_cell_ = cell_of(table_.values[table_.first]);
  std::uint32_t number = table_.first;
  for (std::uint32_t cell = first_cell_; cell <= cell_of(table_.values[table_.last]); ++cell) {
    while (number < table_.last && table_.values[number] < std::bit_cast<float>(cell << kCellShift)) ++number;
    cells_.push_back(static_cast<std::uint8_t>(number));
  }
}

std::uint32_t ScaleTable::number_of(float magnitude) const {
  const std::uint32_t cell = cell_of(magnitude);
  if (cell < first_cell_) return table_.first;
  std::uint32_t number = cells_[std::min<std::size_t>(cell - first_cell_, cells_.size() - 1)];
  while (number < table_.last && table_.values[number] < magnitude) ++number;  // Once, if at all.
  return number;
}

void ScaleTable::find_starts(const cdna_codebook_kernels& kernels, std::span<const float> values, std::size_t group,
                             std::uint8_t* starts) const {
  std::array<float, kGroupsAtATime> largest;
  while (!values.empty()) {
    const std::size_t count = std::min(values.size(), kGroupsAtATime * group);
    const std::size_t groups = (count + group - 1) / group;
    kernels.find_largest(values.data(), count, group, largest.data());
    for (std::size_t i = 0; i < groups; ++i) {
      const float magnitude = largest[i] < 0 ? -largest[i] : largest[i];
      const std::uint32_t sign = largest[i] < 0 ? table_.negative : 0;
      *starts++ = static_cast<std::uint8_t>(magnitude > 0 ? sign + number_of(magnitude) : 0);
    }
    values = values.subspan(count);
  }
}

}  // namespace cdna
