// How the blocks of the stream loop share out the work: an estimate of the time for each way, and the least of them.
#include "stream.h"

namespace cdna_cuda {
namespace {

// All in clocks of a multiprocessor, from the arithmetic and the figures of an H200 in NOTES.md.
constexpr double kMemoryBytesPerClock = 17;  // A multiprocessor's share.
constexpr double kMemoryLatency = 1300;
constexpr double kCacheBytesPerClock = 32;  // What x and parts come with.
constexpr double kBlockStart = 400;         // Table, and what is waited for before the first product.
constexpr double kSlab = 100;               // Its barrier.
constexpr double kLaunch = 4000;
constexpr double kPartsStart = 2500;  // Fence, counter, and the last block's reading: three latencies.

std::uint64_t divide_up(std::uint64_t a, std::uint64_t b) { return (a + b - 1) / b; }
double at_least(double a, double b) { return a < b ? b : a; }

double block_start_clocks(const StreamShape& shape, std::uint64_t range) {
  const double x_bytes = 2.0 * static_cast<double>(range * kTileColumns) * shape.staged;
  return kBlockStart + x_bytes / kCacheBytesPerClock;
}

unsigned resident_blocks(const StreamWork& work, const StreamShape& shape, const Device& device) {
  // A block takes 1 KiB more than it asks for.
  const std::size_t fit = device.shared_bytes_per_multiprocessor / (stream_shared_bytes(work.scale) + 1024);
  const unsigned registers = stream_blocks_per_multiprocessor(work.bits, shape.column_tiles_of_b, work.scale);
  return fit < 1 ? 1 : fit < registers ? static_cast<unsigned>(fit) : registers;
}

// Of the multiprocessor with the most blocks, were memory without limit: what it waits for (Little's law), and what its
// shared memory delivers, 128 bytes per clock, to lookups and rows of x.
double busiest_clocks(const StreamWork& work, const StreamShape& shape, const Device& device) {
  const unsigned rows_per_warp = row_tiles_per_warp(work.bits, shape.column_tiles_of_b, work.scale);
  const std::uint64_t blocks = shape.row_blocks * shape.splits * shape.passes;
  const std::uint64_t blocks_each = divide_up(blocks, static_cast<std::uint64_t>(device.multiprocessors));
  const unsigned resident_max = resident_blocks(work, shape, device);
  const double resident = static_cast<double>(blocks_each < resident_max ? blocks_each : resident_max);
  const double waiting = kMemoryLatency / (resident * kStreamWarps * rows_per_warp);  // For each tile.
  const double lookups = work.bits == 4 ? 32 : 64;
  const double scales = work.scale == ScaleType::none ? 0 : 8;
  const double x_reads = 16.0 * shape.column_tiles_of_b / rows_per_warp;
  const std::uint64_t range = divide_up(work.column_tiles, shape.splits);
  const unsigned warps_over_k = kStreamWarps / shape.warps_over_rows;
  const double tiles = static_cast<double>(divide_up(range, warps_over_k)) * kStreamWarps * rows_per_warp;
  const double slabs = static_cast<double>(divide_up(range, shape.slab_tiles));
  const double block =
      block_start_clocks(shape, range) + kSlab * (slabs - 1) + tiles * at_least(waiting, lookups + scales + x_reads);
  return static_cast<double>(blocks_each) * block;
}

// Writing the parts, and what the last blocks read.
double parts_clocks(const StreamWork& work, const StreamShape& shape, const Device& device) {
  if (shape.splits == 1) return 0;
  const unsigned rows =
      shape.warps_over_rows * row_tiles_per_warp(work.bits, shape.column_tiles_of_b, work.scale) * kTileRows;
  const double part = 4.0 * rows * shape.rows_per_pass;
  const std::uint64_t sums = shape.row_blocks * shape.passes;
  const auto multiprocessors = static_cast<std::uint64_t>(device.multiprocessors);
  const double written = part * static_cast<double>(divide_up(sums * shape.splits, multiprocessors));
  const double read = part * shape.splits * static_cast<double>(divide_up(sums, multiprocessors));
  return kPartsStart + (written + read) / kCacheBytesPerClock;
}

double estimated_clocks(const StreamWork& work, const StreamShape& shape, const Device& device) {
  std::uint64_t row_tiles = 0;
  for (unsigned s = 0; s < work.segment_count; ++s) row_tiles += work.row_tiles[s];
  const double bytes = static_cast<double>(row_tiles * work.column_tiles * tile_bytes(work.bits) * shape.passes);
  const double memory = bytes / (kMemoryBytesPerClock * device.multiprocessors);
  const double busiest = busiest_clocks(work, shape, device);
  const std::uint64_t range = divide_up(work.column_tiles, shape.splits);
  return kLaunch + block_start_clocks(shape, range) + at_least(memory, busiest) + parts_clocks(work, shape, device);
}

}  // namespace

StreamShape stream_shape(const StreamWork& work, const Device& device, unsigned warps_over_rows, unsigned splits) {
  StreamShape shape;
  const std::uint64_t all_columns = std::uint64_t{work.m} * work.columns_per_row;
  const unsigned columns_max = stream_columns_max(work.scale);
  const unsigned columns = all_columns < columns_max ? static_cast<unsigned>(all_columns) : columns_max;
  shape.staged = staged_columns(columns);
  shape.column_tiles_of_b = shape.staged < 8 ? 1 : shape.staged / 8;
  shape.rows_per_pass = columns / work.columns_per_row;
  shape.passes = static_cast<unsigned>(divide_up(work.m, shape.rows_per_pass));
  shape.warps_over_rows = warps_over_rows;
  shape.splits = splits;
  const unsigned block_rows = warps_over_rows * row_tiles_per_warp(work.bits, shape.column_tiles_of_b, work.scale);
  for (unsigned s = 0; s < work.segment_count; ++s) shape.row_blocks += divide_up(work.row_tiles[s], block_rows);
  const std::uint64_t range = divide_up(work.column_tiles, splits);
  const unsigned fit = staged_tiles_max(shape.staged);
  const unsigned warps_over_k = kStreamWarps / warps_over_rows;
  // One slab, or two at a time that keep all warps busy.
  shape.slab_tiles = range <= fit ? fit : fit / 2 / warps_over_k * warps_over_k;
  const std::uint64_t sums = shape.row_blocks * shape.passes;
  shape.possible = shape.slab_tiles > 0 && (splits == 1 || sums <= kCounters) && sums * splits <= 0x7FFFFFFFU &&
                   shape.passes <= 65535;
  if (splits > 1) {
    shape.workspace_bytes =
        kCounterBytes + sums * splits * block_rows * kTileRows * shape.rows_per_pass * sizeof(float);
  }
  if (shape.possible) shape.clocks = estimated_clocks(work, shape, device);
  return shape;
}

StreamShape choose_stream_shape(const StreamWork& work, const Device& device, unsigned splits) {
  constexpr unsigned kSplitsMax = 64;
  const auto tiles = static_cast<unsigned>(work.column_tiles < 1 ? 1 : work.column_tiles);
  const unsigned first = splits == 0 ? 1 : splits < tiles ? splits : tiles;
  const unsigned last = splits != 0 ? first : tiles < kSplitsMax ? tiles : kSplitsMax;
  StreamShape best;
  for (unsigned warps_over_rows = 1; warps_over_rows <= kStreamWarps; warps_over_rows *= 2) {
    for (unsigned s = first; s <= last; ++s) {
      const StreamShape shape = stream_shape(work, device, warps_over_rows, s);
      if (shape.possible && (!best.possible || shape.clocks < best.clocks)) best = shape;
    }
  }
  return best;
}

}  // namespace cdna_cuda
