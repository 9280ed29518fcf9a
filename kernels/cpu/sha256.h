// SHA-256 of several messages at the same time: independent streams fill the pipelines that one stream leaves idle.
//
// Each function hashes `count` messages of `bytes` bytes each and writes 32 bytes per message to `digests`. Any count,
// any length, no alignment; nothing is allocated and nothing can fail. A function may be called only where the CPU and
// the operating system have its instruction set. Messages and digests must not overlap. Source: FIPS 180-4.
#ifndef CDNA_KERNELS_CPU_SHA256_H
#define CDNA_KERNELS_CPU_SHA256_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void (*cdna_sha256_many_function)(const unsigned char* const* messages, size_t count, size_t bytes,
                                          unsigned char* digests);

#if defined(__x86_64__)
void cdna_sha256_many_shani(const unsigned char* const* messages, size_t count, size_t bytes, unsigned char* digests);
void cdna_sha256_many_avx2(const unsigned char* const* messages, size_t count, size_t bytes, unsigned char* digests);
void cdna_sha256_many_avx512(const unsigned char* const* messages, size_t count, size_t bytes, unsigned char* digests);
#endif

#ifdef __cplusplus
}
#endif

#endif
