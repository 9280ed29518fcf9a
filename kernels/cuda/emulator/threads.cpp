// The scheduler of a block's fibers, their meetings, and dynamic shared memory.
#include "threads.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace emulator {

Thread* g_thread = nullptr;

namespace {

constexpr std::size_t kStackBytes = std::size_t{256} * 1024;

struct Free {
  void operator()(unsigned char* bytes) const { std::free(bytes); }
};
using SharedBytes = std::unique_ptr<unsigned char, Free>;

// Exactly that many bytes, so that AddressSanitizer sees what is behind them.
SharedBytes allocate_shared(std::size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 1024, bytes) != 0) throw std::bad_alloc();
  return SharedBytes(static_cast<unsigned char*>(memory));
}

// xorshift64*
struct Random {
  std::uint64_t state = 1;
  std::uint32_t operator()() {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return static_cast<std::uint32_t>(state * 0x2545F4914F6CDD1DULL >> 32);
  }
  // Below `bound`.
  unsigned below(std::uint32_t bound) { return static_cast<unsigned>(std::uint64_t{(*this)()} * bound >> 32); }
};

std::uint64_t mix(std::uint64_t seed) {
  seed += 0x9E3779B97F4A7C15ULL;
  seed = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9ULL;
  seed = (seed ^ seed >> 27) * 0x94D049BB133111EBULL;
  return (seed ^ seed >> 31) | 1;
}

struct Block {
  Fiber host;
  Thread threads[kThreadsMax];
  Warp warps[kWarpsMax];
  unsigned thread_count = 0;
  unsigned warp_count = 0;
  unsigned prepared = 0;  // Threads that have a stack with the fiber's loop in it.
  unsigned exited = 0;
  std::uint32_t ready_warps = 0;
  unsigned current_warp = 0;
  Barrier all{"__syncthreads", 0, 0, 0, 0};
  Barrier warpgroups[kWarpsMax / kWarpgroupWarps] = {};
  Random random;
  std::string failure;
  const std::function<void()>* run_thread = nullptr;
  SharedBytes shared;
  std::size_t shared_bytes = 0;
  unsigned char poison = 0;
  bool fenced_since_barrier = false;
  bool has_view = false;
  std::vector<unsigned char> view;
  unsigned char* stacks = nullptr;
};
Block g_block;

std::string name_of(const uint3& index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

unsigned pick(std::uint32_t set, unsigned from) {
  const std::uint32_t rotated = __funnelshift_r(set, set, from);
  return (from + static_cast<unsigned>(__builtin_ctz(rotated))) & 31U;
}

// The next to run, or null. Mostly stays in a warp while it can, so that warps get far apart.
Thread* next_thread() {
  Block& b = g_block;
  if (b.ready_warps == 0) return nullptr;
  const std::uint32_t random = b.random();
  if ((b.ready_warps >> b.current_warp & 1U) == 0 || random % 64 == 0) {
    b.current_warp = pick(b.ready_warps, random >> 8);
  }
  Warp& warp = b.warps[b.current_warp];
  warp.rank = pick(warp.ready, warp.rank + 1);
  warp.ready &= ~(1U << warp.rank);
  if (warp.ready == 0) b.ready_warps &= ~(1U << b.current_warp);
  return warp.lanes[warp.lane_of[warp.rank]];
}

void make_ready(Warp& warp, std::uint32_t ranks) {
  if (ranks == 0) return;
  warp.ready |= ranks;
  g_block.ready_warps |= 1U << warp.number;
}

// Lets others run until this thread is ready; for one that exits, until it begins anew.
void give_way(Thread& thread) {
  Thread* const next = next_thread();
  if (next == &thread) return;
  if (next != nullptr) {
    g_thread = next;
    threadIdx = next->index;
  }
  switch_fiber(thread.fiber, next != nullptr ? next->fiber : g_block.host);
}

void run_fiber() {
  begin_fiber();
  for (;;) {
    (*g_block.run_thread)();
    commit_copies();
    wait_for_copies(0);
    Thread& thread = *g_thread;
    thread.exited = true;
    ++g_block.exited;
    give_way(thread);
  }
}

std::uint32_t ranks_of(const Warp& warp, std::uint32_t lanes) {
  if (lanes == kAllLanes) return kAllLanes;
  std::uint32_t ranks = 0;
  for (std::uint32_t left = lanes; left != 0; left &= left - 1) ranks |= 1U << warp.rank_of[__builtin_ctz(left)];
  return ranks;
}

bool wait_together(const Warp& warp, const char* name, std::uint32_t mask) {
  if ((warp.waiting & mask) != mask) return false;
  for (std::uint32_t left = mask; left != 0; left &= left - 1) {
    const Thread& thread = *warp.lanes[__builtin_ctz(left)];
    if (thread.waits_at != name || thread.mask != mask) return false;
  }
  return true;
}

void see_fenced_writes() {
  Block& b = g_block;
  if (!b.fenced_since_barrier) return;
  b.view.assign(b.shared.get(), b.shared.get() + b.shared_bytes);
  b.has_view = true;
  b.fenced_since_barrier = false;
}

void release(const Barrier& barrier) {
  for (unsigned i = 0; i < barrier.warp_count; ++i) {
    Warp& warp = g_block.warps[barrier.first_warp + i];
    std::uint32_t ranks = 0;
    for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
      if (warp.lanes[lane] != nullptr && warp.lanes[lane] != g_thread) ranks |= 1U << warp.rank_of[lane];
    }
    make_ready(warp, ranks);
  }
}

// True in the thread that comes last: it has to release the others.
bool is_last_at(Barrier& barrier) {
  Thread& thread = *g_thread;
  thread.mask = 0;
  thread.waits_at = barrier.name;
  if (++barrier.arrived < barrier.thread_count) {
    give_way(thread);
    return false;
  }
  barrier.arrived = 0;
  return true;
}

// What every thread is doing when nobody can go on.
std::string deadlock_message() {
  struct Group {
    const char* name;
    std::uint32_t mask;
    unsigned count;
    const Thread* first;
  };
  std::vector<Group> groups;
  for (unsigned i = 0; i < g_block.thread_count; ++i) {
    const Thread& thread = g_block.threads[i];
    const char* const name = thread.exited ? nullptr : thread.waits_at;
    const std::uint32_t mask = thread.exited ? 0 : thread.mask;
    auto group = groups.begin();
    while (group != groups.end() && (group->name != name || group->mask != mask)) ++group;
    if (group == groups.end()) group = groups.insert(group, {name, mask, 0, &thread});
    ++group->count;
  }
  std::string text = "block " + name_of(blockIdx) + " cannot go on:";
  for (const Group& group : groups) {
    text += " " + std::to_string(group.count) + (group.name == nullptr ? " have ended" : " wait at ");
    if (group.name != nullptr) text += group.name;
    text += " (the first: thread " + name_of(group.first->index) + ");";
  }
  text.pop_back();
  return text;
}

void shuffle_lanes(Warp& warp) {
  for (unsigned i = 0; i < kWarpLanes; ++i) warp.lane_of[i] = static_cast<std::uint8_t>(i);
  for (unsigned i = kWarpLanes - 1; i > 0; --i) std::swap(warp.lane_of[i], warp.lane_of[g_block.random.below(i + 1)]);
  for (unsigned i = 0; i < kWarpLanes; ++i) warp.rank_of[warp.lane_of[i]] = static_cast<std::uint8_t>(i);
}

void set_up_warp(Warp& warp, unsigned number) {
  Block& b = g_block;
  warp.number = number;
  warp.waiting = 0;
  warp.ready = 0;
  warp.rank = b.random.below(kWarpLanes);
  warp.products.clear();
  warp.product_group = 0;
  warp.due_groups = 0;
  warp.fenced = false;
  shuffle_lanes(warp);
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    const unsigned i = number * kWarpLanes + lane;
    warp.lanes[lane] = i < b.thread_count ? &b.threads[i] : nullptr;
    if (warp.lanes[lane] == nullptr) continue;
    Thread& thread = b.threads[i];
    thread.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    thread.lane = lane;
    thread.warp = &warp;
    thread.waits_at = nullptr;
    thread.mask = 0;
    thread.exited = false;
    thread.copies.clear();
    thread.copy_group = 0;
    make_ready(warp, 1U << warp.rank_of[lane]);
  }
}

void set_up_block() {
  Block& b = g_block;
  b.exited = 0;
  b.ready_warps = 0;
  b.failure.clear();
  b.fenced_since_barrier = false;
  b.has_view = false;
  b.all = {"__syncthreads", 0, b.warp_count, b.thread_count, 0};
  for (unsigned i = 0; i < kWarpsMax / kWarpgroupWarps; ++i) {
    b.warpgroups[i] = {"wgmma_wait of the warpgroup", kWarpgroupWarps * i, kWarpgroupWarps,
                       kWarpgroupWarps * kWarpLanes, 0};
  }
  for (unsigned i = 0; i < b.warp_count; ++i) set_up_warp(b.warps[i], i);
  if (b.shared_bytes != 0) std::memset(b.shared.get(), b.poison, b.shared_bytes);
}

// Stacks are mapped once, a page that nobody may touch below each.
void prepare_threads(unsigned count) {
  Block& b = g_block;
  if (b.stacks == nullptr) {
    void* const memory = mmap(nullptr, kThreadsMax * kStackBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    b.stacks = static_cast<unsigned char*>(memory);
  }
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  for (; b.prepared < count; ++b.prepared) {
    unsigned char* const stack = b.stacks + b.prepared * kStackBytes;
    mprotect(stack, page, PROT_NONE);
    make_fiber(b.threads[b.prepared].fiber, stack + page, kStackBytes - page, run_fiber);
  }
}

std::string unfinished_message() {
  for (unsigned i = 0; i < g_block.warp_count; ++i) {
    if (!g_block.warps[i].products.empty()) return "block " + name_of(blockIdx) + " ended before its wgmma";
  }
  return "";
}

void run_block() {
  Block& b = g_block;
  set_up_block();
  b.current_warp = pick(b.ready_warps, b.random());
  g_thread = next_thread();
  threadIdx = g_thread->index;
  switch_fiber(b.host, g_thread->fiber);
  if (b.failure.empty() && b.exited < b.thread_count) b.failure = deadlock_message();
  if (b.failure.empty()) b.failure = unfinished_message();
  if (!b.failure.empty()) b.prepared = 0;  // Fibers in the middle of a kernel are given up.
  g_thread = nullptr;
}

uint3 block_at(std::uint64_t i, const dim3& grid) {
  return {static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
          static_cast<unsigned>(i / grid.x / grid.y)};
}

std::vector<std::uint64_t> shuffled(std::uint64_t count) {
  std::vector<std::uint64_t> order(count);
  for (std::uint64_t i = 0; i < count; ++i) order[i] = i;
  for (std::uint64_t i = count; i > 1; --i) {
    std::swap(order[i - 1],
              order[g_block.random.below(static_cast<std::uint32_t>(std::min(i, std::uint64_t{1} << 31)))]);
  }
  return order;
}

}  // namespace

std::string run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, std::uint64_t seed, unsigned char poison,
                     const std::function<void()>& run_thread) {
  Block& b = g_block;
  b.thread_count = block.x * block.y * block.z;
  b.warp_count = (b.thread_count + kWarpLanes - 1) / kWarpLanes;
  b.random.state = mix(seed);
  b.run_thread = &run_thread;
  b.shared_bytes = shared_bytes;
  b.shared = shared_bytes == 0 ? SharedBytes() : allocate_shared(shared_bytes);
  b.poison = poison;
  gridDim = grid;
  blockDim = block;
  prepare_threads(b.thread_count);
  for (const std::uint64_t i : shuffled(std::uint64_t{grid.x} * grid.y * grid.z)) {
    blockIdx = block_at(i, grid);
    run_block();
    if (!b.failure.empty()) break;
  }
  b.shared.reset();
  return b.failure;
}

void meet(const Collective& collective, std::uint32_t mask, void* operand) {
  Thread& thread = *g_thread;
  Warp& warp = *thread.warp;
  const std::uint32_t own = 1U << thread.lane;
  if ((mask & own) == 0) fail("%s: the thread is not in the mask %08x", collective.name, mask);
  thread.operand = operand;
  thread.waits_at = collective.name;
  thread.mask = mask;
  warp.waiting |= own;
  if (!wait_together(warp, collective.name, mask)) {
    give_way(thread);
    return;
  }
  collective.run(warp, mask);
  warp.waiting &= ~mask;
  make_ready(warp, ranks_of(warp, mask & ~own) & ~(1U << warp.rank_of[thread.lane]));
}

void meet_warpgroup(void (*compare)(const Warp& first, const Warp& other)) {
  const unsigned group = g_thread->warp->number / kWarpgroupWarps;
  if ((group + 1) * kWarpgroupWarps * kWarpLanes > g_block.thread_count) fail("wgmma needs four whole warps");
  Barrier& barrier = g_block.warpgroups[group];
  if (!is_last_at(barrier)) return;
  for (unsigned i = 1; i < kWarpgroupWarps; ++i) {
    compare(g_block.warps[barrier.first_warp], g_block.warps[barrier.first_warp + i]);
  }
  release(barrier);
}

void fail(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  if (g_thread == nullptr) {
    std::fprintf(stderr, "emulator: outside of a kernel: %s\n", text);
    std::abort();
  }
  g_block.failure = "block " + name_of(blockIdx) + ", thread " + name_of(g_thread->index) + ": " + text;
  switch_fiber(g_thread->fiber, g_block.host);
  std::abort();  // Nothing switches back.
}

void sync_threads() {
  if (!is_last_at(g_block.all)) return;
  see_fenced_writes();
  release(g_block.all);
}

unsigned char* shared_memory() { return g_block.shared.get(); }

std::uint32_t shared_address_of(const void* pointer) {
  const auto begin = reinterpret_cast<std::uintptr_t>(g_block.shared.get());
  const auto place = reinterpret_cast<std::uintptr_t>(pointer);
  if (place < begin || place - begin > g_block.shared_bytes)
    fail("shared_address: %p is not in shared memory", pointer);
  return kSharedBase + static_cast<std::uint32_t>(place - begin);
}

unsigned char* shared_bytes_at(std::uint32_t address, std::uint32_t bytes, std::uint32_t alignment, const char* what) {
  if (address % alignment != 0) fail("%s: shared address %u is not aligned to %u bytes", what, address, alignment);
  const std::size_t end = kSharedBase + g_block.shared_bytes;
  if (address < kSharedBase || address > end || bytes > end - address) {
    fail("%s: %u bytes at shared address %u, which is byte %lld of %zu", what, bytes, address,
         static_cast<long long>(address) - kSharedBase, g_block.shared_bytes);
  }
  return g_block.shared.get() + (address - kSharedBase);
}

const unsigned char* shared_seen_by_wgmma() { return g_block.has_view ? g_block.view.data() : nullptr; }
void fence_shared() { g_block.fenced_since_barrier = true; }

// Until it is done, its bytes at the destination are poison: neither the old nor the new ones may be read.
void copy_async(std::uint32_t to, const void* from, std::uint32_t bytes) {
  Thread& thread = *g_thread;
  if (bytes > 16) fail("copy_async_16: %u bytes", bytes);
  if (reinterpret_cast<std::uintptr_t>(from) % 16 != 0) fail("copy_async_16: %p is not aligned to 16 bytes", from);
  std::memset(shared_bytes_at(to, 16, 16, "copy_async_16"), g_block.poison, 16);
  thread.copies.push_back({to, from, bytes, thread.copy_group});
}

void commit_copies() { ++g_thread->copy_group; }

void wait_for_copies(std::uint32_t pending) {
  Thread& thread = *g_thread;
  std::size_t done = 0;
  for (; done < thread.copies.size(); ++done) {
    const AsyncCopy& copy = thread.copies[done];
    if (copy.group + pending >= thread.copy_group) break;  // Those not committed yet are of group copy_group.
    unsigned char* const to = shared_bytes_at(copy.to, 16, 16, "copy_async_16");
    if (copy.bytes != 0) std::memcpy(to, copy.from, copy.bytes);
    std::memset(to + copy.bytes, 0, 16 - copy.bytes);
  }
  thread.copies.erase(thread.copies.begin(), thread.copies.begin() + static_cast<std::ptrdiff_t>(done));
}

}  // namespace emulator
