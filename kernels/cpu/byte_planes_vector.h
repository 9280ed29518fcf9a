// Byte planes with vectors: the body of each version. Before it is included: Vector, load(), store(), rotate_left() and
// rotate_right() by one bit of elements of kSize bytes, even() and odd() bytes of two vectors, and the two halves of
// their zip, zip_low() and zip_high().
#ifndef CDNA_KERNELS_CPU_BYTE_PLANES_VECTOR_H
#define CDNA_KERNELS_CPU_BYTE_PLANES_VECTOR_H

#include "kernels/cpu/byte_planes_scalar.h"

namespace {

// As many vectors as an element has bytes: together a whole number of elements. Taking the even bytes of all of them,
// then the odd ones, log2(kSize) times, leaves byte k of the elements in vector k.
template <size_t kSize>
CDNA_INLINE void unzip(Vector (&v)[kSize]) {
  for (size_t step = 1; step < kSize; step *= 2) {
    Vector next[kSize];
    for (size_t i = 0; i < kSize / 2; ++i) {
      next[i] = even(v[2 * i], v[2 * i + 1]);
      next[kSize / 2 + i] = odd(v[2 * i], v[2 * i + 1]);
    }
    for (size_t i = 0; i < kSize; ++i) v[i] = next[i];
  }
}

template <size_t kSize>
CDNA_INLINE void zip(Vector (&v)[kSize]) {
  for (size_t step = 1; step < kSize; step *= 2) {
    Vector next[kSize];
    for (size_t i = 0; i < kSize / 2; ++i) {
      next[2 * i] = zip_low(v[i], v[kSize / 2 + i]);
      next[2 * i + 1] = zip_high(v[i], v[kSize / 2 + i]);
    }
    for (size_t i = 0; i < kSize; ++i) v[i] = next[i];
  }
}

template <size_t kSize>
void split(const unsigned char* elements, size_t count, unsigned char* planes, unsigned char* last) {
  const size_t whole = count / sizeof(Vector) * sizeof(Vector);
  for (size_t i = 0; i < whole; i += sizeof(Vector)) {
    Vector v[kSize];
    for (size_t k = 0; k < kSize; ++k) v[k] = rotate_left<kSize>(load(elements + kSize * i + sizeof(Vector) * k));
    unzip(v);
    for (size_t k = 0; k + 1 < kSize; ++k) store(planes + k * count + i, v[k]);
    store(last + i, v[kSize - 1]);
  }
  split_one_by_one<kSize>(elements, whole, count, planes, last);
}

// All of a step is read before any of it is written: `last` may lie at the end of `elements`.
template <size_t kSize>
void join(const unsigned char* planes, const unsigned char* last, size_t count, unsigned char* elements) {
  const size_t whole = count / sizeof(Vector) * sizeof(Vector);
  for (size_t i = 0; i < whole; i += sizeof(Vector)) {
    Vector v[kSize];
    for (size_t k = 0; k + 1 < kSize; ++k) v[k] = load(planes + k * count + i);
    v[kSize - 1] = load(last + i);
    zip(v);
    for (size_t k = 0; k < kSize; ++k) store(elements + kSize * i + sizeof(Vector) * k, rotate_right<kSize>(v[k]));
  }
  join_one_by_one<kSize>(planes, last, whole, count, elements);
}

}  // namespace

#endif
