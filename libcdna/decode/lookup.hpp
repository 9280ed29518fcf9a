// Tables of a codebook in the forms that the kernels look entries up in.
#pragma once

#include <memory>
#include <span>

#include "kernels/cpu/matmul.h"

namespace cdna {

enum class Entries : bool { as_they_are, rounded_to_bf16 };

// Requires: 2 to 256 entries, a power of two, none of them NaN or infinite unless code 0 is finite.
std::unique_ptr<cdna_lookup> make_lookup(std::span<const float> entries, Entries rounding = Entries::as_they_are);

}  // namespace cdna
