// Byte planes on any CPU.
#include "kernels/cpu/byte_planes.h"
#include "kernels/cpu/byte_planes_scalar.h"

namespace {

template <size_t kSize>
void split(const unsigned char* elements, size_t count, unsigned char* planes, unsigned char* last) {
  split_one_by_one<kSize>(elements, 0, count, planes, last);
}

template <size_t kSize>
void join(const unsigned char* planes, const unsigned char* last, size_t count, unsigned char* elements) {
  join_one_by_one<kSize>(planes, last, 0, count, elements);
}

}  // namespace

const cdna_byte_planes_kernel cdna_byte_planes_baseline = {{split<2>, split<4>, split<8>}, {join<2>, join<4>, join<8>}};
