// Products of a warpgroup with B in shared memory, by matrix descriptors.
//
// A warp's part is computed when the wait that completes it returns to that warp. B has to be what wgmma was shown by a
// fence and a barrier, and still be in shared memory then: whoever overwrites it earlier, or forgets the fence, is
// told.
#include "emulator.h"
#include "instructions.h"
#include "products.h"
#include "threads.h"

namespace emulator {

namespace {

// PTX ISA, "Matrix Descriptor Format".
struct Descriptor {
  std::uint32_t start;
  std::uint32_t leading_bytes;  // Between 8-column parts (16 bytes) of k; without swizzling only.
  std::uint32_t stride_bytes;   // Between groups of 8 rows.
  std::uint32_t base_offset;
  std::uint32_t row_bytes;  // 16, or the width of the swizzle.
};

Descriptor parse(std::uint64_t descriptor) {
  const auto field = [descriptor](unsigned bit) {
    return static_cast<std::uint32_t>(descriptor >> bit & 0x3FFFU) << 4;
  };
  constexpr std::uint32_t kRowBytes[4] = {16, 128, 64, 32};
  return {field(0), field(16), field(32), static_cast<std::uint32_t>(descriptor >> 49 & 7U),
          kRowBytes[descriptor >> 62]};
}

// The address of 8 columns of k (`part` 0 or 1) of row n of B. Swizzling by 128 bytes exchanges address bits 4 to 6
// with their sum with bits 7 to 9; by 64 bytes, bits 4 and 5 with 7 and 8; by 32, bit 4 with 7.
std::uint32_t address_of(const Descriptor& d, unsigned n, unsigned part) {
  const std::uint32_t group = d.start + n / 8 * d.stride_bytes;
  if (d.row_bytes == 16) return group + n % 8 * 16 + part * d.leading_bytes;
  const std::uint32_t linear = group + n % 8 * d.row_bytes + part * 16;
  return linear ^ (linear >> 3 & (d.row_bytes - 16));
}

void check(const Descriptor& d, std::uint64_t descriptor) {
  if (d.base_offset != 0)
    fail("wgmma: descriptor %016llx has a base offset", static_cast<unsigned long long>(descriptor));
}

const unsigned char* b_bytes_at(std::uint32_t address) {
  const unsigned char* const now = shared_bytes_at(address, 16, 16, "wgmma: B");
  const unsigned char* const view = shared_seen_by_wgmma();
  if (view == nullptr) fail("wgmma: B was never fenced by fence_shared_for_wgmma and a barrier");
  if (std::memcmp(now, view + (now - shared_memory()), 16) != 0) {
    fail("wgmma: B at shared address %u was written after its fence, or without one", address);
  }
  return now;
}

void run_part(const WarpgroupProduct& product) {
  const Descriptor d = parse(product.b);
  const float* const values = half_values(product.f16);
  Tile tile;
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) place_a(tile, values, lane, product.a[lane]);
  for (unsigned column = 0; column < product.columns; column += 8) {
    for (unsigned i = 0; i < 16; ++i) {
      const unsigned n = i / 2;
      const unsigned char* const bytes = b_bytes_at(address_of(d, column + n, i % 2));
      for (unsigned k = 0; k < 8; ++k) {
        std::uint16_t bits;
        std::memcpy(&bits, bytes + 2 * k, 2);
        tile.b[8 * (i % 2) + k][n] = values[bits];
      }
    }
    for (unsigned lane = 0; lane < kWarpLanes; ++lane) place_c(tile, lane, product.c[lane] + column / 2);
    multiply(tile);
    for (unsigned lane = 0; lane < kWarpLanes; ++lane) take_c(tile, lane, product.c[lane] + column / 2);
  }
}

void run_due(Warp& warp) {
  std::size_t done = 0;
  for (; done < warp.products.size() && warp.products[done].group < warp.due_groups; ++done) {
    run_part(warp.products[done]);
  }
  warp.products.erase(warp.products.begin(), warp.products.begin() + static_cast<std::ptrdiff_t>(done));
}

struct Operands {
  bool f16;
  unsigned columns;
  float* c;
  const std::uint32_t* a;
  std::uint64_t b;
};

void run_issue(Warp& warp, std::uint32_t) {
  const auto& first = *static_cast<const Operands*>(warp.lanes[0]->operand);
  if (!warp.fenced) fail("wgmma: no wgmma_fence since the last wait");
  check(parse(first.b), first.b);
  warp.products.push_back({first.f16, first.columns, first.b, {}, {}, warp.product_group});
  WarpgroupProduct& product = warp.products.back();
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    const auto& own = *static_cast<const Operands*>(warp.lanes[lane]->operand);
    if (own.b != first.b || own.f16 != first.f16 || own.columns != first.columns) fail("wgmma: lanes differ");
    product.c[lane] = own.c;
    std::memcpy(product.a[lane], own.a, sizeof(product.a[lane]));
  }
}

void run_fence(Warp& warp, std::uint32_t) { warp.fenced = true; }
void run_commit(Warp& warp, std::uint32_t) { ++warp.product_group; }

void run_wait(Warp& warp, std::uint32_t) {
  const std::uint32_t pending = *static_cast<const std::uint32_t*>(warp.lanes[0]->operand);
  warp.due_groups = warp.product_group - std::min(pending, warp.product_group);
  warp.fenced = false;
}

constexpr Collective kFence{"wgmma_fence", run_fence};
constexpr Collective kIssue{"wgmma", run_issue};
constexpr Collective kCommit{"wgmma_commit", run_commit};
constexpr Collective kWait{"wgmma_wait", run_wait};

// All four warps have to have issued the same.
void check_warpgroup(const Warp& warp, const Warp& other) {
  bool same = warp.product_group == other.product_group && warp.products.size() == other.products.size();
  for (std::size_t i = 0; same && i < warp.products.size(); ++i) {
    same = warp.products[i].b == other.products[i].b && warp.products[i].columns == other.products[i].columns;
  }
  if (!same) fail("wgmma: warps %u and %u of a warpgroup differ in their products", warp.number, other.number);
}

}  // namespace

void wgmma_fence() {
  if (settings().major != 9) fail("wgmma needs compute capability 9.0");
  meet(kFence, kAllLanes, nullptr);
}

void wgmma_product(bool f16, unsigned columns, float* c, const std::uint32_t (&a)[4], std::uint64_t b) {
  Operands operand{f16, columns, c, a, b};
  meet(kIssue, kAllLanes, &operand);
}

void wgmma_commit() { meet(kCommit, kAllLanes, nullptr); }

void wgmma_wait(std::uint32_t pending) {
  meet(kWait, kAllLanes, &pending);
  meet_warpgroup(check_warpgroup);
  run_due(*g_thread->warp);
}

}  // namespace emulator
