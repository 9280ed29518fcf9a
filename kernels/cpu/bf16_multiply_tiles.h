// The two halves of cdna_bf16_kernels_amx(), each in a file with flags of its own.
#ifndef CDNA_KERNELS_CPU_BF16_MULTIPLY_TILES_H
#define CDNA_KERNELS_CPU_BF16_MULTIPLY_TILES_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/matmul.h"

extern "C" {

// multiply().
void cdna_bf16_multiply_amx(const uint16_t* a, size_t lda, size_t rows, const uint16_t* b, size_t ldb, size_t lanes,
                            size_t depth, float* c, size_t ldc);

// The table: with that multiply(), the rest in AVX-512 BF16.
const cdna_bf16_kernels* cdna_bf16_tile_kernels_avx512_bf16(void);
}

#endif
