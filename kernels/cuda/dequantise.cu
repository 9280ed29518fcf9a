// Codes on the device back to numbers: the f32 values of the format, bit for bit, rounded once.
#include "device.h"
#include "launch.h"
#include "loops.h"
#include "pack.h"

namespace cdna_cuda {
namespace {

constexpr unsigned kWarps = 4;       // Of a block; each takes tiles of its own.
constexpr unsigned kRowPitch = 136;  // Floats from row to row of a tile in shared memory: no bank conflicts.
constexpr unsigned kTileFloats = kTileRows * kRowPitch;
constexpr std::uint64_t kBlocksMax = 1U << 16;
constexpr std::uint32_t kProductNan = 0x7FC00000U;  // spec/format.md, 13.2.

// A product as the format has it: rounded once, one NaN on all machines.
CDNA_DEVICE float product(float a, float b) {
  const float value = __fmul_rn(a, b);
  return value == value ? value : __uint_as_float(kProductNan);
}

// A lane's words of a tile, in the order of their places.
template <unsigned bits>
CDNA_DEVICE void load_words(const unsigned char* tile, unsigned lane, std::uint32_t (&words)[2 * bits]) {
#pragma unroll
  for (unsigned place = 0; place + 4 <= 2 * bits; place += 4) {
    const uint4 run = *reinterpret_cast<const uint4*>(tile + word_offset(bits, lane, place));
    words[place] = run.x;
    words[place + 1] = run.y;
    words[place + 2] = run.z;
    words[place + 3] = run.w;
  }
  if constexpr (bits % 2 == 1) {
    const uint2 run = *reinterpret_cast<const uint2*>(tile + word_offset(bits, lane, 2 * bits - 2));
    words[2 * bits - 2] = run.x;
    words[2 * bits - 1] = run.y;
  }
}

CDNA_DEVICE float group_scale(const Weights& w, std::uint64_t index) {
  if (w.group_scale_type == ScaleType::f32) return static_cast<const float*>(w.group_scales)[index];
  return w.scale_table[static_cast<const std::uint8_t*>(w.group_scales)[index]];
}

// RN(group * row) of a column of a row; whether there is any.
CDNA_DEVICE bool scale_of(const Weights& w, std::uint64_t tile, std::uint64_t row, unsigned column, float* scale) {
  const bool has_group = w.group_scale_type != ScaleType::none;
  *scale = w.row_scales != nullptr ? w.row_scales[row] : 1.0F;
  if (!has_group) return w.row_scales != nullptr;
  const float group =
      group_scale(w, (tile * kTileRows + row % kTileRows) * (kTileColumns / w.group) + column / w.group);
  *scale = w.row_scales != nullptr ? product(group, *scale) : group;
  return true;
}

// A lane's values of a half of the tile, to their places in shared memory.
template <unsigned bits>
CDNA_DEVICE void decode_half(const Weights& w, std::uint64_t tile, std::uint64_t row, unsigned lane, unsigned half,
                             const std::uint32_t (&words)[2 * bits], float* values) {
  std::uint32_t own[bits];
#pragma unroll
  for (unsigned i = 0; i < bits; ++i) own[i] = words[word_place(bits, half, i)];
#pragma unroll
  for (unsigned step = 0; step < kSteps; ++step) {
    float scale = 1;
    const bool scaled = scale_of(w, tile, row, kStepColumns * step, &scale);
#pragma unroll
    for (unsigned j = 0; j < 4; ++j) {
      const FragmentPlace place{lane, half, step, j};
      const float entry = widen_f16(w.codebook[code_of(bits, own, step, j)]);
      values[row_of(place) * kRowPitch + column_of(place)] = scaled ? product(entry, scale) : entry;
    }
  }
}

CDNA_DEVICE void place_outliers(const Weights& w, std::uint64_t tile, std::uint32_t first_column, unsigned lane,
                                float* values) {
  const std::uint32_t end = w.outlier_begin[tile + 1];
  for (std::uint32_t i = w.outlier_begin[tile] + lane; i < end; i += kLanes) {
    const std::uint32_t place = w.outlier_places[i];
    values[place % kTileRows * kRowPitch + ((place >> 4) - first_column)] = w.outlier_values[i];
  }
}

template <Float type>
struct Element {
  using Bits = std::uint16_t;
  static CDNA_DEVICE Bits of(float value) {
    constexpr bool f16 = type == Float::f16;
    // NaN keeps its sign and its upper bits, and is quiet, as everywhere in the format.
    if (value != value) {
      const std::uint32_t bits = __float_as_uint(value);
      return static_cast<Bits>(f16 ? (bits >> 16 & 0x8000U) | 0x7E00U | (bits >> 13 & 0x3FFU) : bits >> 16 | 0x40U);
    }
    return narrow < f16 ? Half::f16 : Half::bf16 > (value);
  }
};
template <>
struct Element<Float::f32> {
  using Bits = float;
  static CDNA_DEVICE Bits of(float value) { return value; }
};

template <class Bits>
struct alignas(4 * sizeof(Bits)) Four {
  Bits values[4];
};

// Rows of the tile to memory, four columns a lane.
template <Float type>
CDNA_DEVICE void write_rows(const Dequantise& call, std::uint64_t row_tile, std::uint32_t first_column, unsigned lane,
                            const float* values) {
  using Bits = typename Element<type>::Bits;
  const std::uint32_t column = first_column + 4 * lane;
  for (unsigned r = 0; r < kTileRows; ++r) {
    const std::uint64_t row = row_tile * kTileRows + r;
    if (row < call.row_begin || row >= call.row_end || column >= call.weights.cols) continue;
    Four<Bits> four;
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) four.values[i] = Element<type>::of(values[r * kRowPitch + 4 * lane + i]);
    Bits* const out = static_cast<Bits*>(call.out) + static_cast<std::int64_t>(row - call.row_begin) * call.stride +
                      static_cast<std::int64_t>(column);
    if (column + 4 <= call.weights.cols && reinterpret_cast<std::uintptr_t>(out) % sizeof four == 0) {
      *reinterpret_cast<Four<Bits>*>(out) = four;
      continue;
    }
    for (unsigned i = 0; i < 4 && column + i < call.weights.cols; ++i) out[i] = four.values[i];
  }
}

// One warp for a tile.
template <unsigned bits, Float type>
__global__ void dequantise_kernel(const Dequantise call) {
  CDNA_SHARED(shared);
  const Weights& w = call.weights;
  const unsigned lane = threadIdx.x % kLanes;
  const unsigned warp = threadIdx.x / kLanes;
  float* const values = reinterpret_cast<float*>(shared) + warp * kTileFloats;
  const std::uint64_t column_tiles = tiles_of_columns(w.cols);
  const std::uint64_t end = tiles_of_rows(call.row_end) * column_tiles;
  std::uint64_t tile = call.row_begin / kTileRows * column_tiles + std::uint64_t{blockIdx.x} * kWarps + warp;
  for (; tile < end; tile += std::uint64_t{gridDim.x} * kWarps) {
    const std::uint64_t row_tile = tile / column_tiles;
    const auto first_column = static_cast<std::uint32_t>(tile % column_tiles * kTileColumns);
    std::uint32_t words[2 * bits];
    load_words<bits>(static_cast<const unsigned char*>(w.tiles) + tile * tile_bytes(bits), lane, words);
    decode_half<bits>(w, tile, row_tile * kTileRows + lane / 4, lane, 0, words, values);
    decode_half<bits>(w, tile, row_tile * kTileRows + lane / 4 + 8, lane, 1, words, values);
    __syncwarp();
    if (w.outlier_begin != nullptr) place_outliers(w, tile, first_column, lane, values);
    __syncwarp();
    write_rows<type>(call, row_tile, first_column, lane, values);
    __syncwarp();
  }
}

Outcome bad_argument(const char* reason) { return {Status::bad_argument, cudaSuccess, reason}; }

using Kernel = void (*)(const Dequantise);

template <unsigned bits>
Kernel kernel_of(Float type) {
  switch (type) {
    case Float::f16:
      return dequantise_kernel<bits, Float::f16>;
    case Float::bf16:
      return dequantise_kernel<bits, Float::bf16>;
    default:
      return dequantise_kernel<bits, Float::f32>;
  }
}

Kernel kernel_of(unsigned bits, Float type) {
  switch (bits) {
    case 4:
      return kernel_of<4>(type);
    case 5:
      return kernel_of<5>(type);
    case 6:
      return kernel_of<6>(type);
    default:
      return kernel_of<8>(type);
  }
}

Outcome check(const Dequantise& call) {
  const Weights& w = call.weights;
  if (call.row_begin > call.row_end || call.row_end > w.rows) return bad_argument("rows that the matrix has not");
  if (call.row_begin == call.row_end || w.cols == 0) return {};
  const Outcome weights = check_weights(w);
  if (weights.status != Status::ok) return weights;
  if (call.out == nullptr) return bad_argument("there is no place for the result");
  if (reinterpret_cast<std::uintptr_t>(call.out) % size_of(call.type) != 0)
    return bad_argument("the result is not aligned to its elements");
  if (call.stride < std::int64_t{w.cols}) return bad_argument("the rows of the result overlap");
  return {};
}

}  // namespace

Outcome dequantise(const Dequantise& call, cudaStream_t stream) {
  const Outcome checked = check(call);
  if (checked.status != Status::ok) return checked;
  const std::uint64_t row_tiles = tiles_of_rows(call.row_end) - call.row_begin / kTileRows;
  const std::uint64_t tiles = row_tiles * tiles_of_columns(call.weights.cols);
  if (call.row_begin == call.row_end || tiles == 0) return {};
  const std::uint64_t blocks = (tiles + kWarps - 1) / kWarps;
  const cudaError_t error = launch(kernel_of(call.weights.bits, call.type),
                                   dim3(static_cast<unsigned>(blocks < kBlocksMax ? blocks : kBlocksMax)),
                                   dim3(kWarps * kLanes), kWarps * kTileFloats * sizeof(float), stream, call);
  if (error != cudaSuccess) return {Status::device_error, error, "the kernel that decodes did not start"};
  return {};
}

}  // namespace cdna_cuda
