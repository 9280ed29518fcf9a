// Codes and scales from the file's order to that of the device.
#include "device.h"
#include "launch.h"
#include "pack.h"

namespace cdna_cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr std::uint64_t kBlocksMax = 1U << 16;  // More work than so many blocks have at a time is done in turns.

CDNA_DEVICE std::uint64_t first_index() { return std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
CDNA_DEVICE std::uint64_t index_stride() { return std::uint64_t{gridDim.x} * blockDim.x; }

// Code `column` of a row's bit string. Touches no byte behind the code's last.
CDNA_DEVICE std::uint8_t source_code(const std::uint8_t* row, unsigned bits, unsigned column) {
  const unsigned bit = column * bits;
  unsigned window = row[bit / 8] >> bit % 8;
  if (bit % 8 + bits > 8) window |= unsigned{row[bit / 8 + 1]} << (8 - bit % 8);
  return static_cast<std::uint8_t>(window & ((1U << bits) - 1));
}

// The 32 codes that a lane has of a row of a tile, of which `columns` are there.
CDNA_DEVICE void gather_codes(const std::uint8_t* row, unsigned bits, unsigned columns, unsigned lane_column,
                              std::uint8_t (&codes)[32]) {
#pragma unroll
  for (unsigned step = 0; step < kSteps; ++step) {
#pragma unroll
    for (unsigned j = 0; j < 4; ++j) {
      const unsigned column = kStepColumns * step + 2 * lane_column + j % 2 + 8 * (j / 2);
      codes[4 * step + j] = column < columns ? source_code(row, bits, column) : std::uint8_t{0};
    }
  }
}

// One thread for every lane's part of a row of a tile: words that nobody else writes.
template <unsigned bits>
__global__ void pack_codes_kernel(const PackCodes call) {
  const std::uint64_t column_tiles = tiles_of_columns(call.column_count);
  const std::uint64_t count = column_tiles * call.row_count * 4;
  for (std::uint64_t index = first_index(); index < count; index += index_stride()) {
    const auto lane_column = static_cast<unsigned>(index % 4);
    const auto source_row = static_cast<std::uint32_t>(index / 4 % call.row_count);
    const auto column_tile = static_cast<std::uint32_t>(index / 4 / call.row_count);
    const std::uint32_t columns_left = call.column_count - column_tile * kTileColumns;
    const auto* const source = static_cast<const std::uint8_t*>(call.source) + source_row * call.row_bytes +
                               std::uint64_t{column_tile} * (kTileColumns / 8) * call.source_bits;
    std::uint8_t codes[32];
    gather_codes(source, call.source_bits, columns_left < kTileColumns ? columns_left : kTileColumns, lane_column,
                 codes);
    std::uint32_t words[bits];
    pack_words(bits, codes, words);
    const std::uint32_t row = call.row_begin + source_row;
    const std::uint64_t tile =
        row / kTileRows * tiles_of_columns(call.cols) + call.column_begin / kTileColumns + column_tile;
    auto* const out = static_cast<unsigned char*>(call.tiles) + tile * tile_bytes(bits);
    const unsigned lane = 4 * (row % 8) + lane_column;
    const unsigned half = row % kTileRows / 8;
#pragma unroll
    for (unsigned w = 0; w < bits; ++w)
      *reinterpret_cast<std::uint32_t*>(out + word_offset(bits, lane, word_place(bits, half, w))) = words[w];
  }
}

// One thread for every scale of the tiles.
template <class Scale>
__global__ void pack_scales_kernel(const PackScales call) {
  const std::uint32_t column_count = call.column_count != 0 ? call.column_count : call.cols - call.column_begin;
  const std::uint32_t source_groups = (column_count + call.group - 1) / call.group;
  const std::uint32_t per_tile = kTileColumns / call.group;
  const std::uint64_t tile_groups = tiles_of_columns(column_count) * per_tile;
  const std::uint64_t count = tile_groups * call.row_count;
  for (std::uint64_t index = first_index(); index < count; index += index_stride()) {
    const auto group = static_cast<std::uint32_t>(index % tile_groups);
    const auto source_row = static_cast<std::uint32_t>(index / tile_groups);
    const std::uint32_t row = call.row_begin + source_row;
    const std::uint64_t tile =
        row / kTileRows * tiles_of_columns(call.cols) + call.column_begin / kTileColumns + group / per_tile;
    const Scale scale = group < source_groups
                            ? static_cast<const Scale*>(call.source)[std::uint64_t{source_row} * source_groups + group]
                            : Scale{0};
    static_cast<Scale*>(call.scales)[(tile * kTileRows + row % kTileRows) * per_tile + group % per_tile] = scale;
  }
}

Outcome bad_argument(const char* reason) { return {Status::bad_argument, cudaSuccess, reason}; }

template <class Arguments>
Outcome launch_over(void (*kernel)(const Arguments), std::uint64_t count, const Arguments& call, cudaStream_t stream) {
  const std::uint64_t blocks = (count + kThreads - 1) / kThreads;
  const cudaError_t error = launch(kernel, dim3(static_cast<unsigned>(blocks < kBlocksMax ? blocks : kBlocksMax)),
                                   dim3(kThreads), 0, stream, call);
  if (error != cudaSuccess) return {Status::device_error, error, "a kernel that brings codes in order did not start"};
  return {};
}

// Whether columns [begin, begin + count) of a matrix begin a tile, and end one or the matrix.
bool is_tile_range(std::uint32_t begin, std::uint32_t count, std::uint32_t cols) {
  return begin % kTileColumns == 0 && begin <= cols && count <= cols - begin &&
         (count % kTileColumns == 0 || count == cols - begin);
}

}  // namespace

Outcome pack_codes(const PackCodes& call, cudaStream_t stream) {
  if (device_bits(call.source_bits) == 0) return {Status::unsupported, cudaSuccess, "codes of 1 to 8 bits are wanted"};
  if (!is_tile_range(call.column_begin, call.column_count, call.cols))
    return bad_argument("the columns are not those of whole tiles");
  if (call.row_count > ~call.row_begin) return bad_argument("more rows than a matrix can have");
  const std::uint64_t count = tiles_of_columns(call.column_count) * call.row_count * 4;
  if (count == 0) return {};
  if (call.source == nullptr || call.tiles == nullptr) return bad_argument("codes or tiles are missing");
  if (reinterpret_cast<std::uintptr_t>(call.tiles) % 16 != 0) return bad_argument("tiles are not aligned to 16 bytes");
  if (call.row_bytes < (std::uint64_t{call.column_count} * call.source_bits + 7) / 8)
    return bad_argument("the rows of codes overlap");
  switch (device_bits(call.source_bits)) {
    case 4:
      return launch_over(pack_codes_kernel<4>, count, call, stream);
    case 5:
      return launch_over(pack_codes_kernel<5>, count, call, stream);
    case 6:
      return launch_over(pack_codes_kernel<6>, count, call, stream);
    default:
      return launch_over(pack_codes_kernel<8>, count, call, stream);
  }
}

Outcome pack_scales(const PackScales& call, cudaStream_t stream) {
  if (call.group != 32 && call.group != 64 && call.group != 128)
    return bad_argument("groups of 32, 64 or 128 columns are wanted");
  if (call.type == ScaleType::none) return bad_argument("scales of no type");
  if (call.column_begin > call.cols) return bad_argument("the columns are not those of whole tiles");
  const std::uint32_t columns = call.column_count != 0 ? call.column_count : call.cols - call.column_begin;
  if (!is_tile_range(call.column_begin, columns, call.cols))
    return bad_argument("the columns are not those of whole tiles");
  if (call.row_count > ~call.row_begin) return bad_argument("more rows than a matrix can have");
  const std::uint64_t count = tiles_of_columns(columns) * (kTileColumns / call.group) * call.row_count;
  if (count == 0) return {};
  if (call.source == nullptr || call.scales == nullptr) return bad_argument("scales or their place are missing");
  if (call.type == ScaleType::f32 && (reinterpret_cast<std::uintptr_t>(call.source) % sizeof(float) != 0 ||
                                      reinterpret_cast<std::uintptr_t>(call.scales) % sizeof(float) != 0))
    return bad_argument("f32 scales are not aligned to 4 bytes");
  return call.type == ScaleType::u8 ? launch_over(pack_scales_kernel<std::uint8_t>, count, call, stream)
                                    : launch_over(pack_scales_kernel<float>, count, call, stream);
}

}  // namespace cdna_cuda
