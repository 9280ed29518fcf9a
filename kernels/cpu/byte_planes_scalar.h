// Byte planes one element at a time: all of the baseline, and what is left of a count that is no multiple of the lanes.
#ifndef CDNA_KERNELS_CPU_BYTE_PLANES_SCALAR_H
#define CDNA_KERNELS_CPU_BYTE_PLANES_SCALAR_H

#include <stddef.h>

#include "kernels/cpu/inline.h"

namespace {

template <size_t kSize>
struct WordOf;
template <>
struct WordOf<2> {
  using Type = unsigned short;
};
template <>
struct WordOf<4> {
  using Type = unsigned int;
};
template <>
struct WordOf<8> {
  using Type = unsigned long long;
};

// Elements [begin, count).
template <size_t kSize>
CDNA_INLINE void split_one_by_one(const unsigned char* elements, size_t begin, size_t count, unsigned char* planes,
                                  unsigned char* last) {
  using Word = typename WordOf<kSize>::Type;
  for (size_t i = begin; i < count; ++i) {
    Word word = 0;
    __builtin_memcpy(&word, elements + kSize * i, kSize);
    word = static_cast<Word>(word << 1 | word >> (8 * kSize - 1));
    for (size_t k = 0; k + 1 < kSize; ++k) planes[k * count + i] = static_cast<unsigned char>(word >> (8 * k));
    last[i] = static_cast<unsigned char>(word >> (8 * kSize - 8));
  }
}

template <size_t kSize>
CDNA_INLINE void join_one_by_one(const unsigned char* planes, const unsigned char* last, size_t begin, size_t count,
                                 unsigned char* elements) {
  using Word = typename WordOf<kSize>::Type;
  for (size_t i = begin; i < count; ++i) {
    Word word = last[i];
    for (size_t k = kSize - 1; k-- > 0;) word = static_cast<Word>(word << 8 | planes[k * count + i]);
    word = static_cast<Word>(word >> 1 | word << (8 * kSize - 1));
    __builtin_memcpy(elements + kSize * i, &word, kSize);
  }
}

}  // namespace

#endif
