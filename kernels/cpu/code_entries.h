// Which look-up serves codes of a width, as a type or a number that a loop is compiled for.
#ifndef CDNA_KERNELS_CPU_CODE_ENTRIES_H
#define CDNA_KERNELS_CPU_CODE_ENTRIES_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/inline.h"

namespace {

template <class T>
struct Type {
  using Of = T;
};

template <size_t kCount>
struct Count {
  static constexpr size_t kValue = kCount;
};

// Calls body(Count<n>()): n bits of a code are what a look-up goes by. Entries repeat, so that 6 serve fewer.
template <class Body>
CDNA_INLINE void with_index_bits(uint32_t bits, const Body& body) {
  if (bits == 8) return body(Count<8>());
  if (bits == 7) return body(Count<7>());
  body(Count<6>());
}

// Calls body(Type<Entries>()).
template <class NibbleEntries, template <uint32_t> class ByteEntries, class Body>
CDNA_INLINE void with_entries(uint32_t bits, const Body& body) {
  if (bits == 4) return body(Type<NibbleEntries>());
  with_index_bits(bits, [&](auto index) { body(Type<ByteEntries<index.kValue>>()); });
}

}  // namespace

#endif
