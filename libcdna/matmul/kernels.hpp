// The kernels of an instruction set.
#pragma once

#include "cdna/cpu.hpp"
#include "kernels/cpu/matmul.h"

namespace cdna {

const cdna_f32_kernels& f32_kernels(Isa isa);
const cdna_bf16_kernels& bf16_kernels(Isa isa);
const cdna_int8_kernels& int8_kernels(Isa isa);

// How bf16 and int8 products are made there, for people: "vdpbf16ps".
const char* bf16_products(Isa isa, bool tiles);
const char* int8_products(Isa isa);

}  // namespace cdna
