// x on its way to the products: tiles of 64 columns of some rows of x (columns of the batch), several of them in shared
// memory at a time, filled asynchronously.
//
// A stage is `columns` rows of 128 bytes, 64 halves of k. Its 16-byte chunk c of row r lies at 128 r + 16 (c ^ r % 8):
// the 128-byte swizzle of wgmma, with which neither ldmatrix nor copying has bank conflicts.
#pragma once

#include "device.h"

namespace cdna_cuda {

constexpr unsigned kStageK = 64;
constexpr unsigned kStageRowBytes = 2 * kStageK;

// x as a ring reads it. by_16_bytes: pointer and stride are multiples of 16 bytes.
struct Batch {
  const unsigned char* x;
  std::int64_t stride;  // In elements of two bytes.
  std::uint32_t m;
  std::uint32_t cols;
  bool by_16_bytes;
};

// The offset in a stage of chunk `chunk` of row `row`.
CDNA_HD constexpr unsigned swizzled(unsigned row, unsigned chunk) {
  return kStageRowBytes * row + 16 * (chunk ^ row % 8);
}

// What wgmma takes for 16 columns of k of a stage: K-major, 128-byte swizzle, groups of 8 rows 1024 bytes apart; stages
// are aligned to 1024 bytes (PTX ISA, "Matrix descriptor format").
CDNA_HD constexpr std::uint64_t swizzled_descriptor(std::uint32_t stage, unsigned step) {
  return std::uint64_t{(stage + 32 * step) >> 4 & 0x3FFFU} | std::uint64_t{1} << 16 | std::uint64_t{1024 >> 4} << 32 |
         std::uint64_t{1} << 62;
}

template <unsigned columns>
class BatchRing {
 public:
  static constexpr unsigned stage_bytes = columns * kStageRowBytes;

  // memory: `stages` stages of shared memory, aligned to 1024 bytes. The tile begins at row `first` < m of x.
  CDNA_DEVICE BatchRing(unsigned char* memory, unsigned stages, const Batch& batch, std::uint32_t first)
      : memory_(memory), stages_(stages), batch_(batch), first_(first) {}

  // Begins to fill the slot of the stage that is `ahead` after the one read next, with 64 columns from k on, zeros
  // behind the last column; one group of asynchronous copies of each thread. Requires: nobody reads the slot.
  CDNA_DEVICE void fetch(unsigned ahead, std::uint32_t k) {
    const unsigned slot = slot_ + ahead < stages_ ? slot_ + ahead : slot_ + ahead - stages_;
    if (k < tiles_of_columns(batch_.cols) * kTileColumns) {  // What codes are multiplied with, if only by 0.
      if (batch_.by_16_bytes) {
        fetch_async(memory_ + std::size_t{slot} * stage_bytes, k);
      } else {
        fetch_elements(memory_ + std::size_t{slot} * stage_bytes, k);
      }
    }
    copy_async_commit();
    __syncwarp();  // Threads have gone ways of their own, and what follows is for whole warps.
  }

  // The next stage.
  CDNA_DEVICE unsigned char* read() {
    unsigned char* const stage = memory_ + std::size_t{slot_} * stage_bytes;
    slot_ = slot_ + 1 == stages_ ? 0 : slot_ + 1;
    return stage;
  }

 private:
  // A thread copies the same chunk of rows blockDim.x / 8 apart, a multiple of 8: the swizzle is the same for all.
  CDNA_DEVICE void fetch_async(unsigned char* stage, std::uint32_t k_begin) const {
    const unsigned row = threadIdx.x / 8;
    const unsigned chunk = threadIdx.x % 8;
    const std::uint32_t k = k_begin + 8 * chunk;
    const unsigned step = blockDim.x / 8;
    const std::uint32_t left = k < batch_.cols ? batch_.m - first_ : 0;  // Rows that are there.
    const std::uint32_t bytes = k + 8 <= batch_.cols ? 16 : 2 * (batch_.cols - k);
    const unsigned char* from = batch_.x;
    if (row < left) from += 2 * (static_cast<std::int64_t>(first_ + row) * batch_.stride + k);
    std::uint32_t to = shared_address(stage) + swizzled(row, chunk);
#pragma unroll 4
    for (unsigned r = row; r < columns; r += step) {
      const bool inside = r < left;
      copy_async_16(to, inside ? from : batch_.x, inside ? bytes : 0);
      from += 2 * static_cast<std::int64_t>(step) * batch_.stride;
      to += step * kStageRowBytes;
    }
  }

  // x not aligned: element by element, at once.
  CDNA_DEVICE void fetch_elements(unsigned char* stage, std::uint32_t k_begin) const {
#pragma unroll 1
    for (unsigned i = threadIdx.x; i < columns * 8; i += blockDim.x) {
      const unsigned row = i / 8;
      const std::uint32_t k = k_begin + 8 * (i % 8);
      std::uint32_t words[4] = {0, 0, 0, 0};
      if (first_ + row < batch_.m) {
        const auto* const from =
            reinterpret_cast<const std::uint16_t*>(batch_.x) + static_cast<std::int64_t>(first_ + row) * batch_.stride;
#pragma unroll
        for (unsigned j = 0; j < 8; ++j) {
          if (k + j < batch_.cols) words[j / 2] |= std::uint32_t{from[k + j]} << 16 * (j % 2);
        }
      }
      *reinterpret_cast<uint4*>(stage + swizzled(row, i % 8)) = uint4{words[0], words[1], words[2], words[3]};
    }
  }

  unsigned char* memory_;
  unsigned stages_;
  const Batch& batch_;
  std::uint32_t first_;
  unsigned slot_ = 0;  // Of the stage that is read next.
};

}  // namespace cdna_cuda
