// Units are slices of blocks where there are fewer blocks than threads want, and several blocks where there are more.
#include "libcdna/matmul/units.hpp"

#include <algorithm>

namespace cdna {
namespace {

constexpr std::uint64_t kUnitsPerThread = 4;  // At least, where blocks can be sliced.
constexpr std::uint64_t kSliceRows = 16;

// Blocks in the mapping can be cut into slices at no cost: nothing is copied or decoded for each.
bool can_slice(const Weights& weights) { return weights.file->zero_copy() && weights.plane->codecs() == 1; }

std::uint64_t block_count(const Weights& part) {
  if (!part.has_blocks()) return 0;
  return part.cut() ? part.rows() : part.end_block() - part.first_block();
}

}  // namespace

Units::Units(const Job& job, std::uint64_t rows_wanted) : job_(&job) {
  std::uint64_t blocks = 0;
  for (const Weights& part : job.parts) blocks += block_count(part);
  const std::uint64_t wanted = job.threads == 1 ? 1 : kUnitsPerThread * job.threads;
  std::uint64_t column = 0;
  for (const Weights& part : job.parts) {
    steps_.push_back(step_of(part, blocks, wanted, rows_wanted));
    ends_.push_back(count() + unit_count(part, steps_.back()));
    columns_.push_back(column);
    column += part.rows();
  }
}

std::uint64_t Units::unit_count(const Weights& part, Step step) {
  return (block_count(part) + step.blocks - 1) / step.blocks * step.slices;
}

// For a part of a product with `blocks` blocks in all, of which `wanted` units are to be made.
Units::Step Units::step_of(const Weights& part, std::uint64_t blocks, std::uint64_t wanted, std::uint64_t rows_wanted) {
  Step step;
  if (!part.has_blocks() || part.cut()) return step;
  const std::uint64_t rows = part.plane->rows_per_block();
  if (blocks < wanted && can_slice(part)) {
    step.slices = std::min((wanted + blocks - 1) / blocks, std::max<std::uint64_t>(1, rows / kSliceRows));
  } else {
    step.blocks =
        std::clamp<std::uint64_t>(std::min((rows_wanted + rows - 1) / rows, blocks / wanted), 1, RowGroup::kBlocksMax);
  }
  return step;
}

Unit Units::operator[](std::uint64_t number) const {
  Unit unit;
  unit.part = static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), number) - ends_.begin());
  const std::uint64_t within = number - (unit.part == 0 ? 0 : ends_[unit.part - 1]);
  const Weights& part = job_->parts[unit.part];
  if (part.cut()) return {unit.part, part.row_begin + within, part.row_begin + within + 1};
  const Step step = steps_[unit.part];
  const std::uint64_t rows = part.plane->rows_per_block();
  const std::uint64_t block = part.first_block() + within / step.slices * step.blocks;
  const std::uint64_t slice = within % step.slices;
  const std::uint64_t all = rows * step.blocks;
  const auto clamp = [&](std::uint64_t row) { return std::clamp(row, part.row_begin, part.row_end); };
  unit.row_begin = clamp(block * rows + all * slice / step.slices);
  unit.row_end = clamp(block * rows + all * (slice + 1) / step.slices);
  return unit;
}

}  // namespace cdna
