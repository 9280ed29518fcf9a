// The functions of device.h on the CPU, and wgmma: same names, same meaning, checked.
//
// A product or copy that is under way is done at the wait that guarantees it, no earlier. Addresses that are not
// aligned or outside of the block's shared memory end the kernel with a message (emulator::failure()).
#pragma once

#include <cuda_runtime.h>

#include "../decode.h"

#define CDNA_SHARED(name) unsigned char* const name = ::emulator::shared_memory()
#define CDNA_DEVICE inline

namespace emulator {

unsigned char* shared_memory();
std::uint32_t shared_address_of(const void* pointer);
std::uint32_t load_shared_word(std::uint32_t address);
void check_load(const void* pointer, std::uint32_t bytes);
void copy_async(std::uint32_t to, const void* from, std::uint32_t bytes);
void commit_copies();
void wait_for_copies(std::uint32_t pending);
void load_matrices(std::uint32_t (&r)[4], std::uint32_t row_address);

// f16: binary16, otherwise bf16.
void multiply_16816(bool f16, float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]);
float widen_half(bool f16, std::uint16_t bits);
// To nearest, ties to even; NaN becomes 0x7FFF, as cvt gives it.
std::uint16_t narrow_half(bool f16, double number);
std::uint32_t fma_f16x2(std::uint32_t a, std::uint32_t b, std::uint32_t c);
std::uint32_t subtract_f16x2(std::uint32_t a, std::uint32_t b);

void wgmma_fence();
void wgmma_commit();
void wgmma_wait(std::uint32_t pending);
void wgmma_product(bool f16, unsigned columns, float* c, const std::uint32_t (&a)[4], std::uint64_t b);
void fence_shared();

}  // namespace emulator

namespace cdna_cuda {

inline std::uint32_t shared_address(const void* pointer) { return emulator::shared_address_of(pointer); }
inline std::uint32_t load_shared(std::uint32_t address) { return emulator::load_shared_word(address); }

inline uint4 load_once_16(const void* pointer) {
  emulator::check_load(pointer, 16);
  return *static_cast<const uint4*>(pointer);
}
inline uint2 load_once_8(const void* pointer) {
  emulator::check_load(pointer, 8);
  return *static_cast<const uint2*>(pointer);
}

template <Half half>
void mma_16816(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  emulator::multiply_16816(half == Half::f16, c, a, b);
}
inline void ldmatrix_x4(std::uint32_t (&r)[4], std::uint32_t row_address) { emulator::load_matrices(r, row_address); }

inline void copy_async_16(std::uint32_t shared, const void* global, std::uint32_t bytes = 16) {
  emulator::copy_async(shared, global, bytes);
}
inline void copy_async_commit() { emulator::commit_copies(); }
template <int pending>
void copy_async_wait() {
  emulator::wait_for_copies(pending);
}

template <Half half>
std::uint16_t narrow(float number) {
  return emulator::narrow_half(half == Half::f16, static_cast<double>(number));
}
template <Half half>
std::uint32_t narrow_pair(float low, float high) {
  return std::uint32_t{narrow<half>(low)} | std::uint32_t{narrow<half>(high)} << 16;
}
template <Half half>
float widen(std::uint16_t bits) {
  return emulator::widen_half(half == Half::f16, bits);
}
inline std::uint32_t fma_f16x2(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  return emulator::fma_f16x2(a, b, c);
}
inline std::uint32_t subtract_f16x2(std::uint32_t a, std::uint32_t b) { return emulator::subtract_f16x2(a, b); }

template <class T, unsigned count>
void pin_registers(T (&)[count]) {}

inline void wgmma_fence() { emulator::wgmma_fence(); }
inline void wgmma_commit() { emulator::wgmma_commit(); }
template <int pending>
void wgmma_wait() {
  emulator::wgmma_wait(pending);
}
inline void fence_shared_for_wgmma() { emulator::fence_shared(); }

// c[64, n] += a[64, 16] b[16, n], a warpgroup's together: A in registers, B in shared memory, K-major, by its matrix
// descriptor (PTX ISA, "Asynchronous wgmma multiplication").
template <Half half>
void wgmma_m64n256k16(float (&c)[128], const std::uint32_t (&a)[4], std::uint64_t b_descriptor) {
  emulator::wgmma_product(half == Half::f16, 256, c, a, b_descriptor);
}
template <Half half>
void wgmma_m64n128k16(float (&c)[64], const std::uint32_t (&a)[4], std::uint64_t b_descriptor) {
  emulator::wgmma_product(half == Half::f16, 128, c, a, b_descriptor);
}
template <Half half>
void wgmma_m64n64k16(float (&c)[32], const std::uint32_t (&a)[4], std::uint64_t b_descriptor) {
  emulator::wgmma_product(half == Half::f16, 64, c, a, b_descriptor);
}

}  // namespace cdna_cuda
