// The group scales that the encoder chooses from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/codebook.h"

namespace cdna {

// Scales of either sign, in steps of 1/16 octave, for few entries: the value of largest magnitude in a group always
// comes to lie on the same side of the codebook, which then need not be symmetric. That is worth 0.25 dB with 16
// entries and 0.04 dB with 64. Positive ones only, in steps of 1/32 octave, for more: finer steps are worth 0.1 dB
// there. Both reach down 7.6 octaves from 2^(1/4), 1 being the largest magnitude of the row.
class ScaleTable {
 public:
  static const ScaleTable& of(std::uint32_t entries);
  // For rows without groups: nine factors of their rms, from 2^(-1/8) to 2^(1/8), of which number kRowStart is 1.
  static const cdna_scale_table& for_rows();
  static constexpr std::uint8_t kRowStart = 5;

  const cdna_scale_table& table() const { return table_; }

  // For each group of `group` values the number of the scale to start a search from: the least one that is not below
  // its largest magnitude (the first or last where there is none), negative where that value is and the table has
  // negative scales; 0 for a group of zeros. Magnitudes are at most 1.
  void find_starts(const cdna_codebook_kernels& kernels, std::span<const float> values, std::size_t group,
                   std::uint8_t* starts) const;

 private:
  explicit ScaleTable(bool with_negative);
  std::uint32_t number_of(float magnitude) const;

  cdna_scale_table table_{};
  // By exponent and 7 bits of the fraction, from those of the first scale on: the least number with a scale that is not
  // below where they begin.
  std::uint32_t first_cell_ = 0;
  std::vector<std::uint8_t> cells_;
};

}  // namespace cdna
