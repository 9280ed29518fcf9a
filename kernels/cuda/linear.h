// y = x W^T on the device, from codes in the tiles of layout.h: what is multiplied with, what is asked for, and what a
// call will do. Plain pointers and sizes: nothing here allocates, waits, or knows of files.
#pragma once

#include <cuda_runtime.h>

#include "layout.h"

namespace cdna_cuda {

enum class Float : std::uint8_t { f16, bf16, f32 };
constexpr unsigned size_of(Float type) { return type == Float::f32 ? 4 : 2; }

enum class ScaleType : std::uint8_t { none, u8, f32 };  // u8: a number of an entry of the scale table.

// What is known of a codebook beyond its entries (spec/format.md, 13.3); entries equal what the lines give.
enum class Curve : std::uint8_t { none, pwl, affine };

// A matrix in codes on the device, as pack.h makes it. All pointers are device pointers, aligned to 16 bytes.
//
//   w[r, k] = entry(code) * (group scale * row scale), outliers replaced, as spec/format.md 13.2 says.
struct Weights {
  std::uint32_t rows = 0;
  std::uint32_t cols = 0;
  std::uint8_t bits = 0;  // 4, 5, 6 or 8: on the device.
  Curve curve = Curve::none;
  ScaleType group_scale_type = ScaleType::none;
  std::uint16_t group = 0;                  // Columns per group scale: 32, 64, 128; 0 without.
  bool outliers_fit_f16 = true;             // |value| / row scale of every outlier is below 65504.
  bool scaled_fit_f16 = true;               // |entry * group scale| of every entry and scale is below 65504.
  const void* tiles = nullptr;              // [row tiles, column tiles, tile_bytes(bits)]
  const std::uint16_t* codebook = nullptr;  // [2^bits] binary16, finite.
  const std::uint16_t* lines = nullptr;     // pwl: [16, 2] base, step; affine: base, step. binary16
  const float* row_scales = nullptr;        // [16 * row tiles], or null: 1.
  // [row tiles, column tiles, 16, 128 / group]: a tile's rows one after the other. Padding holds 0.
  const void* group_scales = nullptr;
  const float* scale_table = nullptr;  // [256], with u8.
  // Outliers in the order of tiles, in a tile by column, then row. Null: none.
  const std::uint32_t* outlier_begin = nullptr;   // [row tiles * column tiles + 1]
  const std::uint32_t* outlier_places = nullptr;  // column << 4 | row % 16
  const float* outlier_values = nullptr;          // As f32.
  const float* outlier_deltas = nullptr;          // RN(value - decoded).
};

// One of several matrices with equal cols whose rows of y stand side by side.
struct Segment {
  Weights weights;
  const void* bias = nullptr;  // [rows] of type y, or null.
  std::uint64_t y_column = 0;  // Of row 0 of the weights.
};

constexpr unsigned kSegmentsMax = 8;

// Which main loop: chosen by plan(), or forced.
//   stream  mma.m16n8k16 with W as A, split along k over blocks; sums in full precision, any m.
//   block   128 or more rows x 128 columns of y per block, x in a ring of shared memory, mma.m16n8k16.
//   wgmma   the same with wgmma.m64n256k16: sm_90a.
enum class Loop : std::uint8_t { automatic, stream, block, wgmma };

struct LinearCall {
  const Segment* segments = nullptr;  // On the host.
  unsigned segment_count = 0;         // 1 .. kSegmentsMax
  const void* x = nullptr;            // [m, cols], rows x_stride elements apart; aligned to its element.
  Float x_type = Float::f16;
  std::int64_t x_stride = 0;
  std::uint32_t m = 0;
  void* y = nullptr;  // [m, ...]: column y_column + r of row i is element i * y_stride + y_column + r.
  Float y_type = Float::f16;
  std::int64_t y_stride = 0;
  void* workspace = nullptr;  // plan().workspace_bytes, aligned to 256; not shared by calls under way.
  std::size_t workspace_bytes = 0;
  cudaStream_t stream = nullptr;
  Loop loop = Loop::automatic;
  unsigned splits = 0;  // Of k, for stream; 0: as plan() thinks best.
};

// What plan() has to know of a device.
struct Device {
  int major = 0;
  int minor = 0;
  int multiprocessors = 0;
  std::size_t shared_bytes_per_block_max = 0;  // With opt-in.
  std::size_t shared_bytes_per_multiprocessor = 0;
};

enum class Status : std::uint8_t { ok, bad_argument, unsupported, device_error };
struct Outcome {
  Status status = Status::ok;
  cudaError_t cuda = cudaSuccess;  // With device_error.
  const char* reason = "";         // A static string.
};

struct LinearPlan {
  Outcome outcome;  // Why there is none.
  Loop loop = Loop::stream;
  unsigned splits = 1;              // Of k, stream only.
  std::uint64_t blocks = 0;         // In the grid, over all segments.
  std::size_t workspace_bytes = 0;  // Of the order of splits * m * rows * 4; never of W.
};

// Facts of a device. Errors: device_error; unsupported below compute capability 8.0.
Outcome query_device(int ordinal, Device* device);

// Pure: looks at sizes, types, flags and alignments only.
LinearPlan plan(const LinearCall& call, const Device& device);

// Launches on call.stream, which is of the current device, what plan() says; does not wait, allocates nothing, may be
// captured into a graph. (A kernel's first launch loads it: where that cannot happen while capturing, drivers before
// 12.3, launch once before.) The workspace's first 4 KiB must be 0 at the first call that uses it; every call leaves
// them 0. m = 0 or no rows: launches nothing.
//
// Errors of the result, u = 2^-24, k = cols, for finite x:
//   x f16: |y - exact| <= 2 (k + c) u sum |x||w| + the rounding of y, with the codebook as it is stored; |w| of an
//     outlier counts with what its code stands for. (Of tensor cores it is known from measurements only that they cut
//     sums of up to 16 products off below the largest one's last bits, and keep subnormal f16 numbers; the factor 2 is
//     for that.)
//   x f32: as f16, with 2^-21 for rounding each x to two f16 numbers, and 2^-38 max |x| of the row for each |w|;
//   x bf16: codebook entries are first rounded to bf16, 2^-8 of each |w|.
//   block and wgmma round w / row scale once, to the type of x: 2^-11 (f16; and 2^-25 of the row scale, where that is
//   subnormal) or 2^-8 (bf16, instead of the above) of each |w|, outliers too. Without group scales only outliers are
//   rounded, of f16.
// Provided that no sum of entry * x, nor it times a group scale, overflows or is subnormal in f32: row scales come
// last. Where x is infinite at an outlier, stream may give NaN instead of an infinity.
// The same call gives the same bits, whatever else the device does.
Outcome linear(const LinearCall& call, const Device& device);

}  // namespace cdna_cuda
