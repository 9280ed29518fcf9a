// The group scales that the encoder chooses from.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/cpu/codebook.h"

namespace cdna {

// Scales of either sign, in steps of 1/16 octave, for few entries: the value of largest magnitude in a group always
// comes to lie on the same side of the codebook, which then need not be symmetric. That is worth 0.25 dB with 16
// entries and 0.04 dB with 64. Positive ones only, in steps of 1/32 octave, for more: finer steps are worth 0.1 dB
// there. Both reach down 7.6 octaves from 2^(1/4), 1 being the largest magnitude of the row.
const cdna_scale_table& scale_table_for(std::uint32_t entries);

// The number of the scale to start from: the least one that is not below `magnitude`; the first or last where there is
// none.
std::uint32_t scale_number(const cdna_scale_table& table, float magnitude);

// The number of the best scale for a group of scaled values; 0 if all are 0. Of nine candidates around the group's
// largest magnitude, as the kernel's search_scale() says.
std::uint32_t scale_of_group(const cdna_codebook_kernels& kernels, const cdna_codebook& codebook,
                             const cdna_scale_table& table, std::span<const float> values);
// The same before there is a codebook: the group's largest magnitude, with its sign where the table has signs.
std::uint32_t start_of_group(const cdna_codebook_kernels& kernels, const cdna_scale_table& table,
                             std::span<const float> values);

}  // namespace cdna
