// What the lanes of a warp do together: votes, shuffles, ldmatrix, mma.
#include "instructions.h"
#include "products.h"
#include "threads.h"

namespace emulator {
namespace {

template <class Function>
void for_each_lane(std::uint32_t mask, const Function& function) {
  for (std::uint32_t left = mask; left != 0; left &= left - 1) function(static_cast<unsigned>(__builtin_ctz(left)));
}

void run_nothing(Warp&, std::uint32_t) {}

void run_ballot(Warp& warp, std::uint32_t mask) {
  std::uint32_t votes = 0;
  for_each_lane(mask, [&](unsigned lane) {
    if (*static_cast<const bool*>(warp.lanes[lane]->operand)) votes |= 1U << lane;
  });
  for_each_lane(mask, [&](unsigned lane) { warp.lanes[lane]->result = votes; });
}

struct Shuffle {
  std::uint32_t word;
  unsigned source_lane;
};

void run_shuffle(Warp& warp, std::uint32_t mask) {
  for_each_lane(mask, [&](unsigned lane) {
    const unsigned source = static_cast<const Shuffle*>(warp.lanes[lane]->operand)->source_lane;
    if ((mask >> source & 1U) == 0) fail("shuffle: lane %u reads lane %u, which is not in the mask", lane, source);
    warp.lanes[lane]->result = static_cast<const Shuffle*>(warp.lanes[source]->operand)->word;
  });
}

struct Matrices {
  std::uint32_t* r;
  std::uint32_t row_address;
};

// PTX ISA, "ldmatrix": lane 4g + t gets elements 2t and 2t + 1 of row g of each matrix.
void run_load_matrices(Warp& warp, std::uint32_t) {
  for (unsigned row = 0; row < kWarpLanes; ++row) {
    const std::uint32_t address = static_cast<const Matrices*>(warp.lanes[row]->operand)->row_address;
    const unsigned char* const bytes = shared_bytes_at(address, 16, 16, "ldmatrix_x4");
    for (unsigned t = 0; t < 4; ++t) {
      const unsigned lane = 4 * (row % 8) + t;
      std::memcpy(static_cast<const Matrices*>(warp.lanes[lane]->operand)->r + row / 8, bytes + 4 * t, 4);
    }
  }
}

struct Operands {
  float* c;
  const std::uint32_t* a;
  const std::uint32_t* b;
};

template <bool f16>
void run_multiply(Warp& warp, std::uint32_t) {
  const float* const values = half_values(f16);
  Tile tile;
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    const auto& own = *static_cast<const Operands*>(warp.lanes[lane]->operand);
    place_a(tile, values, lane, own.a);
    place_b(tile, values, lane, own.b);
    place_c(tile, lane, own.c);
  }
  multiply(tile);
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    take_c(tile, lane, static_cast<const Operands*>(warp.lanes[lane]->operand)->c);
  }
}

constexpr Collective kSyncWarp{"__syncwarp", run_nothing};
constexpr Collective kBallot{"__ballot_sync", run_ballot};
constexpr Collective kShuffle{"__shfl_sync", run_shuffle};
constexpr Collective kLoadMatrices{"ldmatrix_x4", run_load_matrices};
constexpr Collective kMultiplyF16{"mma_16816<f16>", run_multiply<true>};
constexpr Collective kMultiplyBf16{"mma_16816<bf16>", run_multiply<false>};

}  // namespace

unsigned lane() { return g_thread->lane; }

void sync_warp(std::uint32_t mask) { meet(kSyncWarp, mask, nullptr); }

std::uint32_t ballot(std::uint32_t mask, bool predicate) {
  meet(kBallot, mask, &predicate);
  return g_thread->result;
}

std::uint32_t shuffle(std::uint32_t mask, std::uint32_t word, unsigned source_lane) {
  Shuffle operand{word, source_lane};
  meet(kShuffle, mask, &operand);
  return g_thread->result;
}

void load_matrices(std::uint32_t (&r)[4], std::uint32_t row_address) {
  Matrices operand{r, row_address};
  meet(kLoadMatrices, kAllLanes, &operand);
}

void multiply_16816(bool f16, float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  Operands operand{c, a, b};
  meet(f16 ? kMultiplyF16 : kMultiplyBf16, kAllLanes, &operand);
}

std::uint32_t load_shared_word(std::uint32_t address) {
  std::uint32_t word;
  std::memcpy(&word, shared_bytes_at(address, 4, 4, "load_shared"), 4);
  return word;
}

void check_load(const void* pointer, std::uint32_t bytes) {
  if (reinterpret_cast<std::uintptr_t>(pointer) % bytes != 0) {
    fail("load_once_%u: %p is not aligned", bytes, pointer);
  }
}

}  // namespace emulator
