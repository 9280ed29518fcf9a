// What kernels need of the device beyond C++: one inline function per instruction, under names of ours.
//
// Compiled by nvcc these are PTX. Compiled by a C++ compiler with emulator/ in front of the include path they are
// emulator/instructions.h: the same kernels then run on the CPU, one fiber per thread, for tests.
//
// A kernel is a `__global__ void name(const Arguments arguments)` with one argument, launched by launch() (launch.h);
// dynamic shared memory is CDNA_SHARED(name), and there is no other shared memory.
#pragma once

#include <cuda_runtime.h>

#include "decode.h"
#include "layout.h"

#ifndef __CUDACC__
#include "emulator/instructions.h"
#else

// An array of all dynamic shared memory of the block, aligned to 1024 bytes.
#define CDNA_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]

#define CDNA_DEVICE __device__ __forceinline__

namespace cdna_cuda {

CDNA_DEVICE std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// The word at a shared-memory address.
CDNA_DEVICE std::uint32_t load_shared(std::uint32_t address) {
  std::uint32_t word;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(word) : "r"(address));
  return word;
}

// Bytes that are read once: past L1, and first to leave L2. Aligned to their size.
CDNA_DEVICE uint4 load_once_16(const void* pointer) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(pointer));
  return v;
}
CDNA_DEVICE uint2 load_once_8(const void* pointer) {
  uint2 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(pointer));
  return v;
}

// c[16, 8] += a[16, 16] b[16, 8], a warp's together, f32 sums (PTX ISA, mma.m16n8k16).
template <Half half>
CDNA_DEVICE void mma_16816(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  if constexpr (half == Half::f16) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

// Four 8 x 8 matrices of 16-bit elements; lane 8i + r gives the address of row r of matrix i (16 bytes, aligned).
CDNA_DEVICE void ldmatrix_x4(std::uint32_t (&r)[4], std::uint32_t row_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row_address));
}

// 16 bytes from global to shared memory, both aligned; the first `bytes` of them, the others become 0.
CDNA_DEVICE void copy_async_16(std::uint32_t shared, const void* global, std::uint32_t bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" : : "r"(shared), "l"(global), "r"(bytes) : "memory");
}
CDNA_DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" : : : "memory"); }
// Until at most `pending` of this thread's groups are under way.
template <int pending>
CDNA_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" : : "n"(pending) : "memory");
}

// Two f32 as halves of a word, `low` in the low one; to nearest, ties to even.
template <Half half>
CDNA_DEVICE std::uint32_t narrow_pair(float low, float high) {
  std::uint32_t word;
  if constexpr (half == Half::f16) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  }
  return word;
}
// One f32 as the low half of a word.
template <Half half>
CDNA_DEVICE std::uint16_t narrow(float number) {
  return static_cast<std::uint16_t>(narrow_pair<half>(number, 0.0F));
}
// A half of a word as f32, exactly.
template <Half half>
CDNA_DEVICE float widen(std::uint16_t bits) {
  if constexpr (half == Half::bf16) return __uint_as_float(std::uint32_t{bits} << 16);
  float number;
  asm("cvt.f32.f16 %0, %1;" : "=f"(number) : "h"(bits));
  return number;
}
// Two f16: a * b + c, each rounded once.
CDNA_DEVICE std::uint32_t fma_f16x2(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t d;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
CDNA_DEVICE std::uint32_t subtract_f16x2(std::uint32_t a, std::uint32_t b) {
  std::uint32_t d;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}

// Nothing that makes these registers, or uses them, is moved to the other side of this.
template <unsigned count>
CDNA_DEVICE void pin_registers(float (&registers)[count]) {
#pragma unroll
  for (unsigned i = 0; i < count; ++i) asm volatile("" : "+f"(registers[i]) : : "memory");
}
template <unsigned count>
CDNA_DEVICE void pin_registers(std::uint32_t (&registers)[count]) {
#pragma unroll
  for (unsigned i = 0; i < count; ++i) asm volatile("" : "+r"(registers[i]) : : "memory");
}

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
// Warpgroup products (sm_90a; PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions").
CDNA_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" : : : "memory"); }
CDNA_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory"); }
template <int pending>
CDNA_DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(pending) : "memory");
}
// Ordinary writes to shared memory, before, are seen by wgmma, after (and a barrier).
CDNA_DEVICE void fence_shared_for_wgmma() { asm volatile("fence.proxy.async.shared::cta;" : : : "memory"); }
#define CDNA_SUMS_8(c, i)                                                                                     \
  "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), "+f"(c[i + 5]), "+f"(c[i + 6]), \
      "+f"(c[i + 7])
#define CDNA_SUMS_32(c, i) CDNA_SUMS_8(c, i), CDNA_SUMS_8(c, i + 8), CDNA_SUMS_8(c, i + 16), CDNA_SUMS_8(c, i + 24)
#define CDNA_WGMMA_M64N256K16(types)                                                                               \
  asm volatile("{.reg .pred p; setp.eq.u32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32." types            \
               " "                                                                                                 \
               "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                           \
               "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                  \
               "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                  \
               "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "                  \
               "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                  \
               "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "                  \
               "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "      \
               "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, " \
               "{%128, %129, %130, %131}, %132, p, 1, 1, 0;}"                                                      \
               : CDNA_SUMS_32(c, 0), CDNA_SUMS_32(c, 32), CDNA_SUMS_32(c, 64), CDNA_SUMS_32(c, 96)                 \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(descriptor))

// c[64, 256] += a[64, 16] b[16, 256], a warpgroup's together, f32 sums, asynchronously: neither c nor a may be touched
// until a wgmma_wait says so. Warp w of the warpgroup has rows 16w .. of a and c, as mma_16816 has them; c[4j ..] is
// columns 8j .. of it. b lies in shared memory as 256 rows of 64 halves (swizzled_descriptor).
template <Half half>
CDNA_DEVICE void wgmma_m64n256k16(float (&c)[128], const std::uint32_t (&a)[4], std::uint64_t descriptor) {
  if constexpr (half == Half::f16) {
    CDNA_WGMMA_M64N256K16("f16.f16");
  } else {
    CDNA_WGMMA_M64N256K16("bf16.bf16");
  }
}

#undef CDNA_WGMMA_M64N256K16
#undef CDNA_SUMS_32
#undef CDNA_SUMS_8
#endif

}  // namespace cdna_cuda

#endif
