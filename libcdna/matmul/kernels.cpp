// From an instruction set to its tables of functions.
#include "libcdna/matmul/kernels.hpp"

namespace cdna {

#if defined(__x86_64__)

const cdna_f32_kernels& f32_kernels(Isa isa) {
  if (isa >= Isa::avx512) return *cdna_f32_kernels_avx512();
  return isa == Isa::avx2 ? *cdna_f32_kernels_avx2() : *cdna_f32_kernels_baseline();
}

const cdna_bf16_kernels& bf16_kernels(Isa isa) {
  switch (isa) {
    case Isa::amx:
      return *cdna_bf16_kernels_amx();
    case Isa::avx512_bf16:
      return *cdna_bf16_kernels_avx512_bf16();
    case Isa::avx512:
      return *cdna_bf16_kernels_avx512();
    case Isa::avx2:
      return *cdna_bf16_kernels_avx2();
    case Isa::baseline:
      break;
  }
  return *cdna_bf16_kernels_baseline();
}

const cdna_int8_kernels& int8_kernels(Isa isa) {
  if (isa >= Isa::avx512) return *cdna_int8_kernels_avx512();
  return isa == Isa::avx2 ? *cdna_int8_kernels_avx2() : *cdna_int8_kernels_baseline();
}

#else

const cdna_f32_kernels& f32_kernels(Isa) { return *cdna_f32_kernels_baseline(); }
const cdna_bf16_kernels& bf16_kernels(Isa) { return *cdna_bf16_kernels_baseline(); }
const cdna_int8_kernels& int8_kernels(Isa) { return *cdna_int8_kernels_baseline(); }

#endif

const char* bf16_products(Isa isa, bool tiles) {
  if (tiles && isa == Isa::amx) return "bf16 (tdpbf16ps)";
  return isa >= Isa::avx512_bf16 ? "bf16 (vdpbf16ps)" : "bf16 in f32";
}

const char* int8_products(Isa isa) { return isa >= Isa::avx512 ? "int8 (vpdpbusd)" : "int8"; }

}  // namespace cdna
