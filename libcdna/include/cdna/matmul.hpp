// Multiplying with a tensor straight from its file: blocks are verified, decoded and used one after the other, and the
// matrix as a whole is never held.
//
//   y [m, rows] = x [m, cols] W^T     (W [rows, cols] as stored: a linear layer)       Orientation::linear
//   y [m, cols] = x [m, rows] W                                                        Orientation::transposed
//
// What W is: the values that Tensor::read_rows() returns as F32, outliers included; F64 is rounded to f32. Rows and
// cols are those of the matrix view (spec/format.md, 7.1).
//
// Errors of the result, against the same product in exact arithmetic, u = 2^-24, k = the number of products per sum,
// |w| at an outlier meaning |decoded| + |value - decoded|, provided that no intermediate product or sum overflows or is
// subnormal:
//   Math::f32   |y - exact| <= (k + 16) u * sum |x||w|, for f32 y without bias. x in f16 and bf16 is exact.
//   Math::bf16  x and the codebook (group scales: the decoded w; what int8 does not take, other encodings: w) are first
//               rounded to bf16:
//               |y - exact| <= (2^-7 + 2^-16 + (k + 16) 2 u) * sum |x||w|. With AVX-512 BF16 and AMX subnormal bf16
//               numbers count as 0.
//   Math::int8  x is first rounded to 8 bits, sx = max |x| / 127 in each row and 64 columns, and the codebook to
//               multiples of 2 d = c / 32767, c being its largest magnitude; s is the scale of w:
//               |y - exact| <= sum (sx / 2 (|w| + |s| d) + |x| |s| d) + (k + 16) 2 u * sum |x||w|
// (These hold for f32 y without bias and accumulate, which round once more each.)
// With infinities or NaNs in W or x the result is what f32 arithmetic gives, in the order below, with w as decoded;
// where x is infinite at an outlier and m <= 4, and in int8, it may be NaN instead of an infinity. NaNs are not the
// same bits everywhere.
//
// Math::f32 gives the same bits for every number of threads, block size, source, trust mode and instruction set. For m
// <= 4, and rows of W of over 2^20 columns, sums run in 16 lanes, else in one chain per element (kernels/cpu/matmul.h),
// so the bits of a row of y may differ with m. The other two give the same bits for every number of threads, block
// size, source and trust mode.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "cdna/cpu.hpp"
#include "cdna/dtype.hpp"
#include "cdna/error.hpp"
#include "cdna/reader.hpp"
#include "cdna/workers.hpp"

namespace cdna {

enum class Math : std::uint8_t { f32, bf16, int8 };
std::string_view name_of(Math math);  // "f32", "bf16", "int8"
enum class Orientation : std::uint8_t { linear, transposed };

// A matrix of the caller's. Element (i, j) is at data + (i * row_stride + j * col_stride) * size of dtype.
struct ConstMatrix {
  const void* data = nullptr;
  DType dtype = DType::f32;  // F32, F16 or BF16, at any address.
  std::uint64_t rows = 0;
  std::uint64_t cols = 0;
  std::int64_t row_stride = 0;  // In elements; may be negative or 0.
  std::int64_t col_stride = 1;
};

struct Matrix {
  void* data = nullptr;
  DType dtype = DType::f32;
  std::uint64_t rows = 0;
  std::uint64_t cols = 0;
  std::int64_t row_stride = 0;
  std::int64_t col_stride = 1;
  operator ConstMatrix() const { return {data, dtype, rows, cols, row_stride, col_stride}; }
};

// Row-major matrices without gaps.
ConstMatrix row_major(const float* data, std::uint64_t rows, std::uint64_t cols);
Matrix row_major(float* data, std::uint64_t rows, std::uint64_t cols);

// Rows [row_begin, row_end) of a tensor.
struct WeightRows {
  Tensor tensor;
  std::uint64_t row_begin = 0;
  std::uint64_t row_end = 0;
  explicit WeightRows(const Tensor& all) : tensor(all), row_end(all.rows()) {}
  WeightRows(const Tensor& of, std::uint64_t begin, std::uint64_t end) : tensor(of), row_begin(begin), row_end(end) {}
};

struct MatmulOptions {
  Math math = Math::f32;
  Orientation orientation = Orientation::linear;
  bool accumulate = false;               // y += instead of y =.
  std::optional<ConstMatrix> bias = {};  // [1, columns of y], added to each row of y.
  std::optional<Isa> isa = {};           // Else the one that isa() names.
  Workers* workers = nullptr;            // Null: the calling thread alone.
  // Private memory that the call may use, buffers of all threads together. Less of it means fewer threads, or more
  // passes over W, when m is large. What does not count: x, y, the reader's index entries and codebook, and what of W
  // comes after the outliers, its matrix of low rank without the rows (rank * cols * 4 bytes) and its column scales
  // (cols * 4), at most 256 MiB each (spec/format.md, E7), of all parts at a time, once for all threads. A reader keeps
  // the first 64 MiB of these that were used; others live as long as the call.
  std::uint64_t scratch_bytes_max = std::uint64_t{256} << 20;
  // Pages of the file that the call may leave in memory behind it: blocks that were used go (MADV_DONTNEED on the
  // mapping; they stay in the system's page cache) as soon as more than this many bytes were. Without a limit they
  // stay.
  std::optional<std::uint64_t> resident_bytes_max = {};
};

// What a call with these options would do.
struct MatmulPlan {
  std::string kernel;    // "codes, 8 bits, binary16 codebook", "values, BF16", …
  std::string loop;      // "dot", "tile"
  std::string products;  // "f32", "bf16 (vdpbf16ps)", "bf16 (tdpbf16ps)", "bf16 in f32", "int8 (vpdpbusd)", "int8"
  Isa isa = Isa::baseline;
  std::string io;      // "mmap", "pread", "memory", "custom"
  std::string trust;   // "zero_copy", "strict"
  std::string blocks;  // "raw, in place", "raw, copied", "zstd", "brotli", "zstd and raw", …; "" without blocks
  unsigned threads = 1;
  std::uint64_t passes = 1;         // Over W.
  std::uint64_t scratch_bytes = 0;  // Of all threads together.
};

// Multiplies with the rows of all parts, whose columns of y stand side by side: linear: x [m, cols], y [m, all rows];
// every part has x.cols columns. Transposed: one part, x [m, its rows], y [m, cols]. Any size may be 0 (an empty sum is
// 0). x and y do not overlap. After an error y holds anything. Errors: bad_argument (shapes, dtypes, ranges, more than
// one part transposed, an instruction set that this machine does not have), unsupported (an encoding or dtype that
// cannot be multiplied with: not a float; int8 with anything but codes of at most 8 bits for one element each, with
// scales of rows and of groups of 32 or more and nothing that comes after them, or transposed), limit (not even one
// row's buffers fit into scratch_bytes_max), and what reading blocks gives: io, corrupt, malformed, unsupported, limit;
// of several the one with the lowest part and block. no_memory.
Result<void> matmul(std::span<const WeightRows> parts, const ConstMatrix& x, const Matrix& y,
                    const MatmulOptions& options = {});
Result<void> matmul(const Tensor& tensor, const ConstMatrix& x, const Matrix& y, const MatmulOptions& options = {});

// For `m` rows of x. Reads no block but those that codebook() reads. Errors: as above.
Result<MatmulPlan> describe(std::span<const WeightRows> parts, std::uint64_t m, const MatmulOptions& options = {});
Result<MatmulPlan> describe(const Tensor& tensor, std::uint64_t m, const MatmulOptions& options = {});

}  // namespace cdna
