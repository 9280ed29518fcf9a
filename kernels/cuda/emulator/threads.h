// The threads of a block as fibers: who runs next, who waits for whom, and what is wrong if nobody can go on.
//
// All of it belongs to the one kernel that runs; the runtime's lock is held meanwhile.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "fiber.h"
#include "language.h"

namespace emulator {

constexpr unsigned kWarpLanes = 32;
constexpr unsigned kThreadsMax = 1024;
constexpr unsigned kWarpsMax = kThreadsMax / kWarpLanes;
constexpr unsigned kWarpgroupWarps = 4;
constexpr std::uint32_t kAllLanes = 0xFFFFFFFFU;
// Where dynamic shared memory begins: the first KiB is the system's, as on sm_90.
constexpr std::uint32_t kSharedBase = 1024;

struct Warp;

// What the lanes of a warp do together, once all of them have come. Operands are in lanes[i]->operand.
struct Collective {
  const char* name;
  void (*run)(Warp& warp, std::uint32_t mask);
};

// A copy to shared memory under way.
struct AsyncCopy {
  std::uint32_t to;
  const void* from;
  std::uint32_t bytes;
  std::uint32_t group;
};

struct Thread {
  Fiber fiber;
  uint3 index{};
  unsigned lane = 0;
  Warp* warp = nullptr;
  // Of the collective or barrier it waits for.
  const char* waits_at = nullptr;
  std::uint32_t mask = 0;
  void* operand = nullptr;
  std::uint32_t result = 0;
  bool exited = false;
  std::vector<AsyncCopy> copies;
  std::uint32_t copy_group = 0;
};

// Threads of whole warps that wait until all have come.
struct Barrier {
  const char* name;
  unsigned first_warp;
  unsigned warp_count;
  unsigned thread_count;
  unsigned arrived;
};

// A product of 64 rows that a warp has its part in.
struct WarpgroupProduct {
  bool f16;
  unsigned columns;
  std::uint64_t b;
  float* c[kWarpLanes];
  std::uint32_t a[kWarpLanes][4];
  std::uint32_t group;
};

struct Warp {
  Thread* lanes[kWarpLanes] = {};
  unsigned number = 0;
  std::uint32_t waiting = 0;  // By lane.
  std::uint32_t ready = 0;    // By rank, as are the next two.
  std::uint8_t rank_of[kWarpLanes] = {};
  std::uint8_t lane_of[kWarpLanes] = {};
  unsigned rank = 0;  // Of the last that ran.
  // wgmma.
  std::vector<WarpgroupProduct> products;  // Not run yet.
  std::uint32_t product_group = 0;
  std::uint32_t due_groups = 0;  // Groups below this are to be run before the warp goes on.
  bool fenced = false;
};

// The thread that runs; null outside of kernels.
extern Thread* g_thread;

// Waits for all lanes of `mask`; the last one runs the collective.
void meet(const Collective& collective, std::uint32_t mask, void* operand);
// Waits for all four warps of the thread's warpgroup; the last one compares the first warp with each of the others.
void meet_warpgroup(void (*compare)(const Warp& first, const Warp& other));

// Ends the kernel. For a mistake of the thread that runs.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Dynamic shared memory of the block.
unsigned char* shared_memory();
std::uint32_t shared_address_of(const void* pointer);
// The bytes at an address, which are in the block's memory and aligned.
unsigned char* shared_bytes_at(std::uint32_t address, std::uint32_t bytes, std::uint32_t alignment, const char* what);
// Shared memory as wgmma sees it: as it was at the last barrier behind a fence; null: there was none.
const unsigned char* shared_seen_by_wgmma();
void fence_shared();

void copy_async(std::uint32_t to, const void* from, std::uint32_t bytes);
void commit_copies();
void wait_for_copies(std::uint32_t pending);

// Runs every thread of the grid. Returns what went wrong; empty: nothing.
std::string run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, std::uint64_t seed, unsigned char poison,
                     const std::function<void()>& run_thread);

}  // namespace emulator
