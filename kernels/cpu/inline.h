// How kernels inline: a function that is compiled for a newer instruction set must not be left to the linker.
#ifndef CDNA_KERNELS_CPU_INLINE_H
#define CDNA_KERNELS_CPU_INLINE_H

#define CDNA_INLINE inline __attribute__((always_inline))

#endif
