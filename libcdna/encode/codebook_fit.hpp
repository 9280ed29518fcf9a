// Fits a codebook to the histogram of a tensor's scaled values: density of entries ~ p^(1/3), then Lloyd steps.
//
// Source: Panter and Dite 1951 (a quantiser of least squared error has cell density ~ p^(1/3)); Lloyd 1982.
// Everything that can reach a file is computed with +, -, *, / and sqrt in a fixed order: the same bits on all
// compilers.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace cdna {

// Counts of values by sign, exponent and upper 12 mantissa bits: relative bin width 2^-12 over 2^-16 <= |v| < 2^16;
// smaller and larger magnitudes fall into the outermost bins. Counts are integers, so the order of adding does not
// matter.
class Histogram {
 public:
  static constexpr std::uint32_t kMagnitudes = 32U << 12;  // 32 octaves.
  Histogram() : counts_(2 * std::size_t{kMagnitudes}) {}
  void add(float value) { ++counts_[bin_of(value)]; }
  void add(const Histogram& other);
  std::uint64_t count(std::uint32_t bin) const { return counts_[bin]; }
  std::uint64_t total() const;

  // Bins ascend with the value: [0, kMagnitudes) negative, [kMagnitudes, 2 * kMagnitudes) positive.
  static std::uint32_t bin_of(float value);
  static double center_of(std::uint32_t bin);
  // Smallest magnitude that falls into a bin. Requires: magnitude < kMagnitudes.
  static float magnitude_floor(std::uint32_t magnitude);

 private:
  std::vector<std::uint64_t> counts_;
};

// The least magnitude from which on at most `fraction` of the values lie, at a bin's edge; +Inf if that is none.
float outlier_threshold(const Histogram& histogram, double fraction);

struct Codebook {
  static constexpr std::size_t kSize = 256;
  std::array<std::uint16_t, kSize> half{};  // binary16, ascending, finite.
  std::array<float, kSize> value{};         // The same, widened.

  // The nearest entry; of two equally near, the lower. Requires: prepare() was called.
  std::uint8_t nearest(float value) const;
  // Builds the tables that nearest() uses.
  void prepare();

 private:
  static constexpr std::size_t kCells = 4096;
  std::array<float, kSize - 1> midpoint_{};
  std::array<std::uint8_t, kCells + 1> first_code_{};  // Code of each cell's lower edge.
  float cells_begin_ = 0;
  float cells_per_unit_ = 0;
};

// The codebook for the values whose magnitude is below `threshold`.
Codebook fit_codebook(const Histogram& histogram, float threshold);

}  // namespace cdna
