// Choice and call of the byte-plane kernels.
#include "libcdna/codec/byte_planes.hpp"

#include <bit>
#include <cassert>

#include "kernels/cpu/byte_planes.h"

namespace cdna {
namespace {

const cdna_byte_planes_kernel& kernel_of(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::avx512) return cdna_byte_planes_avx512;
  if (isa == Isa::avx2) return cdna_byte_planes_avx2;
#else
  (void)isa;
#endif
  return cdna_byte_planes_baseline;
}

// Place of the functions for a size in a kernel: 2, 4, 8.
std::size_t place_of(std::size_t element_bytes) {
  assert(element_bytes == 2 || element_bytes == 4 || element_bytes == 8);
  return static_cast<std::size_t>(std::countr_zero(element_bytes)) - 1;
}

const unsigned char* bytes_of(std::span<const std::byte> bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}
unsigned char* bytes_of(std::span<std::byte> bytes) { return reinterpret_cast<unsigned char*>(bytes.data()); }

}  // namespace

void split_byte_planes(Isa isa, std::size_t element_bytes, std::span<const std::byte> elements,
                       std::span<std::byte> planes, std::span<std::byte> last) {
  assert(elements.size() == last.size() * element_bytes && planes.size() == elements.size() - last.size());
  kernel_of(isa).split[place_of(element_bytes)](bytes_of(elements), last.size(), bytes_of(planes), bytes_of(last));
}

void join_byte_planes(Isa isa, std::size_t element_bytes, std::span<const std::byte> planes,
                      std::span<const std::byte> last, std::span<std::byte> elements) {
  assert(elements.size() == last.size() * element_bytes && planes.size() == elements.size() - last.size());
  kernel_of(isa).join[place_of(element_bytes)](bytes_of(planes), bytes_of(last), last.size(), bytes_of(elements));
}

}  // namespace cdna
