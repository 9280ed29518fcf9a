// Elements to byte planes and back (spec/format.md, 12.1): byte k of all elements, each rotated left by one bit, one
// after the other.
//
// split: reads `count` elements of 2, 4 or 8 bytes; writes planes 0 to size - 2 one after the other to `planes`, and
// the last one to `last`. Inputs and outputs must not overlap. join: the reverse; `last` may be the last `count` bytes
// of `elements`, which are then overwritten behind where they are read, but must not overlap it otherwise, nor `planes`
// at all. Any count, no alignment; nothing is allocated and nothing can fail. A function may be called only where the
// CPU and the operating system have its instruction set.
#ifndef CDNA_KERNELS_CPU_BYTE_PLANES_H
#define CDNA_KERNELS_CPU_BYTE_PLANES_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void (*cdna_split_byte_planes_function)(const unsigned char* elements, size_t count, unsigned char* planes,
                                                unsigned char* last);
typedef void (*cdna_join_byte_planes_function)(const unsigned char* planes, const unsigned char* last, size_t count,
                                               unsigned char* elements);

// Of elements of 2, 4 and 8 bytes.
struct cdna_byte_planes_kernel {
  cdna_split_byte_planes_function split[3];
  cdna_join_byte_planes_function join[3];
};

extern const struct cdna_byte_planes_kernel cdna_byte_planes_baseline;
#if defined(__x86_64__)
extern const struct cdna_byte_planes_kernel cdna_byte_planes_avx2;
extern const struct cdna_byte_planes_kernel cdna_byte_planes_avx512;
#endif

#ifdef __cplusplus
}
#endif

#endif
