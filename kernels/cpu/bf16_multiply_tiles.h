// multiply() of cdna_bf16_kernels_amx(), which has a file, and flags, of its own.
#ifndef CDNA_KERNELS_CPU_BF16_MULTIPLY_TILES_H
#define CDNA_KERNELS_CPU_BF16_MULTIPLY_TILES_H

#include <stddef.h>
#include <stdint.h>

extern "C" void cdna_bf16_multiply_tiles(const uint16_t* a, size_t lda, size_t rows, const uint16_t* b, size_t ldb,
                                         size_t lanes, size_t depth, float* c, size_t ldc);

#endif
