// x of the stream loop: from rows of any type, stride and alignment to B operands in the gaps of the table.
//
// x is staged in chunks of 8 k of one column of B, 16 bytes, a row of an 8 x 8 matrix of ldmatrix. Eight chunks fill a
// gap of 128 bytes: the columns of one matrix; of fewer than 8 columns (1, 2 or 4 are staged), those of the matrices of
// the next k as well. The order in a gap is turned by k, so that neither ldmatrix nor writing along k has bank
// conflicts. Columns of B that are not staged repeat those that are: their results go nowhere.
#pragma once

#include "device.h"
#include "stream.h"

namespace cdna_cuda {

// The same number, of which the compiler does not know that it is: what depends on it is computed where it is needed,
// and takes no registers of the main loop before.
CDNA_DEVICE std::uint32_t computed_here(std::uint32_t number) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+r"(number));
#endif
  return number;
}

// Where the chunk of k / 8 = `chunk` and column `column` of B lies, from the start of the table.
CDNA_HD std::uint32_t chunk_offset(std::uint32_t chunk, std::uint32_t column, std::uint32_t staged) {
  constexpr std::uint32_t per_gap = 8;
  if (staged >= per_gap) {
    const std::uint32_t gap = chunk * (staged / per_gap) + column / per_gap;
    return gap * kTableStride + kTableStride / 2 + 16 * ((column ^ chunk) % per_gap);
  }
  const std::uint32_t turned = column ^ (chunk * staged / per_gap & (staged - 1));
  const std::uint32_t place = chunk * staged + turned;
  return place / per_gap * kTableStride + kTableStride / 2 + place % per_gap * 16;
}
// From column tile to column tile of W, 16 chunks per column.
CDNA_HD constexpr std::uint32_t staged_tile_bytes(std::uint32_t staged) { return 2 * kTableStride * staged; }
// Where the second slab begins, if there are more than one.
constexpr std::uint32_t kSecondSlab = static_cast<std::uint32_t>(kTableBytes / 2);

// A number of x as f32.
CDNA_DEVICE float x_number(const StreamArguments& arguments, std::uint32_t row, std::uint32_t k) {
  const std::int64_t place = row * arguments.x_stride + k;
  if (arguments.x_type == Float::f32) return reinterpret_cast<const float*>(arguments.x)[place];
  const std::uint16_t bits = reinterpret_cast<const std::uint16_t*>(arguments.x)[place];
  return arguments.x_type == Float::f16 ? widen<Half::f16>(bits) : widen<Half::bf16>(bits);
}

// 2^exponent for exponents of normal numbers.
CDNA_HD float power_of_two(int exponent) {
  union {
    std::uint32_t u;
    float f;
  } value{static_cast<std::uint32_t>(exponent + 127) << 23};
  return value.f;
}
// number * 2^exponent, exactly but for results below 2^-126. |exponent| <= 252.
CDNA_DEVICE float scale_by_power(float number, int exponent) {
  return number * power_of_two(exponent / 2) * power_of_two(exponent - exponent / 2);
}

// For each row of x the exponent that brings its largest finite number in columns [begin, end) to [2^14, 2^15): two f16
// numbers then hold every one of them to 2^-39 of the largest, and f16 still has them all.
CDNA_DEVICE void find_exponents(const StreamArguments& arguments, std::uint32_t row_begin, std::uint32_t rows,
                                std::uint32_t begin, std::uint32_t end, int* exponents) {
  const std::uint32_t lane = threadIdx.x % kLanes;
  for (std::uint32_t row = threadIdx.x / kLanes; row < rows; row += kStreamWarps) {
    const std::uint32_t* const x =
        reinterpret_cast<const std::uint32_t*>(arguments.x) + (row_begin + row) * arguments.x_stride;
    std::uint32_t largest = 0;
#pragma unroll 4
    for (std::uint32_t k = begin + lane; k < end; k += kLanes) {
      const std::uint32_t magnitude = x[k] & 0x7FFFFFFFU;
      largest = magnitude < 0x7F800000U && magnitude > largest ? magnitude : largest;
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      const std::uint32_t other = __shfl_xor_sync(0xFFFFFFFFU, largest, distance);
      largest = other > largest ? other : largest;
    }
    // floor(log2): of numbers below 2^-126 by their highest bit.
    const int exponent =
        largest >= 0x00800000U ? static_cast<int>(largest >> 23) - 127 : -118 - __clz(static_cast<int>(largest));
    if (lane == 0) exponents[row] = largest == 0 ? 0 : 14 - exponent;
  }
}

// The parts of a slab of x that a thread stages.
struct Slab {
  std::uint32_t row_begin;  // Of x.
  std::uint32_t rows;
  std::uint32_t k_begin;
  std::uint32_t chunks;   // Per column.
  unsigned char* memory;  // The table, or the half of it that is the slab's.
};

// f16 and bf16 whose rows are aligned to 16 bytes: a column per row of x, 16 bytes at a time, 0 behind the last column.
CDNA_DEVICE void stage_aligned(const StreamArguments& arguments, const Slab& slab) {
  for (std::uint32_t i = computed_here(threadIdx.x); i < slab.chunks * arguments.staged; i += kStreamThreads) {
    const std::uint32_t column = i / slab.chunks;
    const std::uint32_t chunk = i % slab.chunks;
    const std::uint32_t k = slab.k_begin + 8 * chunk;
    const bool any = column < slab.rows && k < arguments.cols;
    const std::uint32_t numbers = !any ? 0 : arguments.cols - k < 8 ? arguments.cols - k : 8;
    const std::int64_t place = any ? (slab.row_begin + column) * arguments.x_stride + k : 0;
    copy_async_16(shared_address(slab.memory + chunk_offset(chunk, column, arguments.staged)), arguments.x + 2 * place,
                  2 * numbers);
  }
}

// f16 and bf16 of any alignment, two at a time.
CDNA_DEVICE void stage_halves(const StreamArguments& arguments, const Slab& slab) {
  const std::uint32_t pairs = 4 * slab.chunks;
  for (std::uint32_t i = computed_here(threadIdx.x); i < pairs * arguments.staged; i += kStreamThreads) {
    const std::uint32_t column = i / pairs;
    const std::uint32_t pair = i % pairs;
    const std::uint32_t k = slab.k_begin + 2 * pair;
    const std::uint16_t* const from =
        reinterpret_cast<const std::uint16_t*>(arguments.x) + (slab.row_begin + column) * arguments.x_stride + k;
    std::uint32_t word = 0;
    if (column < slab.rows && k < arguments.cols) word = from[0];
    if (column < slab.rows && k + 1 < arguments.cols) word |= std::uint32_t{from[1]} << 16;
    unsigned char* const to = slab.memory + chunk_offset(pair / 4, column, arguments.staged) + pair % 4 * 4;
    *reinterpret_cast<std::uint32_t*>(to) = word;
  }
}

// An f32 times its row's power of two as f16, rounded and what that leaves: the low and the high half of a word.
CDNA_DEVICE std::uint32_t split_float(float number, int exponent) {
  const float scaled = scale_by_power(number, exponent);
  const std::uint16_t rounded = narrow<Half::f16>(scaled);
  // An infinity leaves nothing: the difference would be NaN.
  const float rest = (rounded & 0x7C00U) == 0x7C00U ? 0.0F : scaled - widen<Half::f16>(rounded);
  return rounded | std::uint32_t{narrow<Half::f16>(rest)} << 16;
}

// f32, two at a time: a row of x becomes two columns of f16.
CDNA_DEVICE void stage_floats(const StreamArguments& arguments, const Slab& slab, const int* exponents) {
  const std::uint32_t pairs = 4 * slab.chunks;
  for (std::uint32_t i = computed_here(threadIdx.x); i < pairs * (arguments.staged / 2); i += kStreamThreads) {
    const std::uint32_t row = i / pairs;
    const std::uint32_t pair = i % pairs;
    const std::uint32_t k = slab.k_begin + 2 * pair;
    const float* const from =
        reinterpret_cast<const float*>(arguments.x) + (slab.row_begin + row) * arguments.x_stride + k;
    const int exponent = row < slab.rows ? exponents[row] : 0;
    const std::uint32_t first = row < slab.rows && k < arguments.cols ? split_float(from[0], exponent) : 0;
    const std::uint32_t second = row < slab.rows && k + 1 < arguments.cols ? split_float(from[1], exponent) : 0;
    unsigned char* const to = slab.memory + pair % 4 * 4;
    *reinterpret_cast<std::uint32_t*>(to + chunk_offset(pair / 4, 2 * row, arguments.staged)) =
        select_bytes(first, second, 0x5410U);
    *reinterpret_cast<std::uint32_t*>(to + chunk_offset(pair / 4, 2 * row + 1, arguments.staged)) =
        select_bytes(first, second, 0x7632U);
  }
}

}  // namespace cdna_cuda
