// CUDA C++ for a C++ compiler: the keywords, vector types, built-in variables and functions that kernels use.
//
// What waits for other threads (barriers, shuffles, votes) is in threads.cpp; the rest is here.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))

// Kernels for sm_90a are part of the emulated program.
#define __CUDA_ARCH_FEAT_SM90_ALL 1

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_count = 1, unsigned y_count = 1, unsigned z_count = 1)
      : x(x_count), y(y_count), z(z_count) {}
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// Those of the thread that runs.
extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
constexpr int warpSize = 32;

using std::max;
using std::min;

namespace emulator {

void sync_threads();
void sync_warp(std::uint32_t mask);
std::uint32_t ballot(std::uint32_t mask, bool predicate);
// The word of lane `from(own lane)` of the segment, or the own one where `valid` is false.
std::uint32_t shuffle(std::uint32_t mask, std::uint32_t word, unsigned source_lane);
unsigned lane();

template <class To, class From>
To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

template <class T>
T shuffle_value(std::uint32_t mask, T value, unsigned source_lane) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  if constexpr (sizeof(T) == 4) {
    return bit_cast<T>(shuffle(mask, bit_cast<std::uint32_t>(value), source_lane));
  } else {
    const auto word = bit_cast<std::uint64_t>(value);
    const std::uint64_t low = shuffle(mask, static_cast<std::uint32_t>(word), source_lane);
    const std::uint64_t high = shuffle(mask, static_cast<std::uint32_t>(word >> 32), source_lane);
    return bit_cast<T>(low | high << 32);
  }
}

// `source`, if it lies in the segment of `width` lanes that `own` is in.
inline unsigned within(unsigned own, unsigned source, int width) {
  const unsigned segment = static_cast<unsigned>(width);
  return source / segment == own / segment ? source : own;
}

}  // namespace emulator

inline void __syncthreads() { emulator::sync_threads(); }
inline void __syncwarp(unsigned mask = 0xFFFFFFFFU) { emulator::sync_warp(mask); }
inline unsigned __ballot_sync(unsigned mask, int predicate) { return emulator::ballot(mask, predicate != 0); }
inline int __any_sync(unsigned mask, int predicate) { return emulator::ballot(mask, predicate != 0) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return emulator::ballot(mask, predicate == 0) == 0; }
inline unsigned __activemask() { return 0xFFFFFFFFU; }

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const unsigned segment = emulator::lane() / static_cast<unsigned>(width) * static_cast<unsigned>(width);
  return emulator::shuffle_value(mask, value, segment + static_cast<unsigned>(source) % static_cast<unsigned>(width));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  const unsigned own = emulator::lane();
  return emulator::shuffle_value(mask, value, emulator::within(own, own ^ static_cast<unsigned>(lanes), width));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned lanes, int width = 32) {
  const unsigned own = emulator::lane();
  return emulator::shuffle_value(mask, value, emulator::within(own, own + lanes, width));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned lanes, int width = 32) {
  const unsigned own = emulator::lane();
  return emulator::shuffle_value(mask, value, own < lanes ? own : emulator::within(own, own - lanes, width));
}

inline void __threadfence() {}
inline void __threadfence_block() {}

// One thread runs at a time, so these are atomic as they are.
template <class T>
T atomicAdd(T* address, T value) {
  const T old = *address;
  *address = static_cast<T>(old + value);
  return old;
}
template <class T>
T atomicExch(T* address, T value) {
  const T old = *address;
  *address = value;
  return old;
}
template <class T>
T atomicCAS(T* address, T expected, T value) {
  const T old = *address;
  if (old == expected) *address = value;
  return old;
}
template <class T>
T atomicMax(T* address, T value) {
  const T old = *address;
  *address = old < value ? value : old;
  return old;
}
template <class T>
T atomicOr(T* address, T value) {
  const T old = *address;
  *address = old | value;
  return old;
}
inline unsigned atomicInc(unsigned* address, unsigned last) {
  const unsigned old = *address;
  *address = old >= last ? 0 : old + 1;
  return old;
}

template <class T>
T __ldg(const T* address) {
  return *address;
}

inline int __popc(unsigned word) { return __builtin_popcount(word); }
inline int __popcll(unsigned long long word) { return __builtin_popcountll(word); }
inline int __ffs(int word) { return __builtin_ffs(word); }
inline int __clz(int word) { return word == 0 ? 32 : __builtin_clz(static_cast<unsigned>(word)); }
inline unsigned __float_as_uint(float number) { return emulator::bit_cast<unsigned>(number); }
inline float __uint_as_float(unsigned word) { return emulator::bit_cast<float>(word); }
inline int __float_as_int(float number) { return emulator::bit_cast<int>(number); }
inline float __int_as_float(int word) { return emulator::bit_cast<float>(word); }

inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const std::uint64_t bytes = std::uint64_t{b} << 32 | a;
  unsigned result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned nibble = selector >> 4 * i & 0xFU;
    const unsigned byte = static_cast<unsigned>(bytes >> 8 * (nibble & 7U)) & 0xFFU;
    result |= ((nibble & 8U) == 0 ? byte : (byte & 0x80U) != 0 ? 0xFFU : 0U) << 8 * i;
  }
  return result;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((std::uint64_t{high} << 32 | low) >> (shift & 31U));
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((std::uint64_t{high} << 32 | low) << (shift & 31U) >> 32);
}
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(std::uint64_t{a} * b >> 32); }

inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fmaf(a, b, c); }
inline float __uint2float_rn(unsigned number) { return static_cast<float>(number); }
