// How kernels inline and unroll: a function that is compiled for a newer instruction set must not be left to the
// linker.
#ifndef CDNA_KERNELS_CPU_INLINE_H
#define CDNA_KERNELS_CPU_INLINE_H

#define CDNA_INLINE inline __attribute__((always_inline))

// clang unrolls such loops unasked; g++ would keep arrays of vectors in memory.
#ifdef __clang__
#define CDNA_UNROLL(times)
#else
#define CDNA_PRAGMA(text) _Pragma(#text)
#define CDNA_UNROLL(times) CDNA_PRAGMA(GCC unroll times)
#endif

#endif
