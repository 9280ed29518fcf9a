// Blocks through the ring's buffers: cut into pieces that fit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "cdna/reader.hpp"
#include "libcdna_cuda/ring.hpp"
#include "libcdna_cuda/tensor_plan.hpp"

namespace cdna::cuda {

// What filling buffers took, without waiting for them.
struct FillTimes {
  double seconds = 0;
  std::uint64_t bytes = 0;
};

// Bytes to their place on the device, in as many pieces as it takes.
Result<void> send_bytes(Ring& ring, std::span<const std::byte> bytes, std::byte* destination, FillTimes& times);

// Those of the block's rows that are in the plan. row_scales: [plan rows], of which a block's are its own. Errors:
// malformed D1 (not finite).
Result<void> take_row_scales(const TensorPlan& plan, const Block& block, std::span<float> row_scales);

class PieceSender {
 public:
  PieceSender(Ring& ring, const TensorPlan& plan, const Block& block, FillTimes& times);

  // Codes, with the group scales of their rows, to their tiles. Errors: malformed D1 (a group scale that is not
  // finite); those of the ring.
  Result<void> send_codes(void* tiles, void* group_scales);
  // The largest magnitude of the group scales that were sent; 0 where they are numbers of a table's entries.
  float largest_scale() const { return largest_scale_; }
  // Elements of an exact tensor, of which `destination` is the first on the device.
  Result<void> send_elements(std::byte* destination);

 private:
  // Rows [row, row + rows) of the block, entries [entry, entry + entries) of each.
  struct Piece {
    std::uint64_t row = 0;
    std::uint64_t rows = 0;
    std::uint64_t entry = 0;
    std::uint64_t entries = 0;
  };
  std::uint64_t code_bytes(std::uint64_t entries) const { return (entries * plan_->decoder.bits + 7) / 8; }
  std::uint64_t groups(std::uint64_t entries) const;
  std::uint64_t row_cost(std::uint64_t entries) const;
  std::uint64_t entries_that_fit() const;
  Result<void> send_piece(const Piece& piece, void* tiles, void* group_scales);
  void fill_codes(const Piece& piece, std::byte* out) const;
  Result<void> fill_scales(const Piece& piece, std::byte* out);

  Ring* ring_;
  const TensorPlan* plan_;
  const Block* block_;
  FillTimes* times_;
  std::uint64_t row_begin_ = 0;  // Rows of the block that are in the plan.
  std::uint64_t row_end_ = 0;
  std::uint64_t scale_bytes_ = 0;  // On the device, each; 0: none.
  float largest_scale_ = 0;
};

}  // namespace cdna::cuda
