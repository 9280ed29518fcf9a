// The end of a product: sums of a warp's 16 rows of W, times row scales, plus bias, rounded, to rows of y.
#pragma once

#include "device.h"
#include "linear.h"

namespace cdna_cuda {

CDNA_DEVICE float load_float(const void* pointer, Float type, std::uint64_t index) {
  if (type == Float::f32) return static_cast<const float*>(pointer)[index];
  const std::uint16_t bits = static_cast<const std::uint16_t*>(pointer)[index];
  return type == Float::f16 ? widen<Half::f16>(bits) : widen<Half::bf16>(bits);
}

CDNA_DEVICE std::uint32_t narrow_pair_as(Float type, float low, float high) {
  return type == Float::f16 ? narrow_pair<Half::f16>(low, high) : narrow_pair<Half::bf16>(low, high);
}

// 16 rows of W, the first of them `row` of the segment, and the columns of y (rows of x) from `batch` on.
struct OutputRows {
  const Segment& segment;
  unsigned char* y;
  Float type;
  std::int64_t stride;
  std::uint32_t m;
  std::uint32_t batch;
  std::uint32_t row;
};

// A warp's staging memory, in which 32 columns of sums change from the order of the lanes to that of y: 32 rows of 16
// f32, 80 bytes apart, so that a warp's words fall on 32 banks.
constexpr unsigned kStagingColumns = 32;
constexpr unsigned kStagingRow = 20;
constexpr unsigned kStagingBytes = kStagingColumns * kStagingRow * 4;

// Rows [8 * eighth, + 8) of one column of y from staged numbers: 16 bytes at a time where they can be.
CDNA_DEVICE void store_eight(const OutputRows& to, const float* numbers, std::uint32_t column, unsigned eighth) {
  const std::uint32_t row = to.row + 8 * eighth;
  if (column >= to.m || row >= to.segment.weights.rows) return;
  const std::uint32_t left = to.segment.weights.rows - row;
  unsigned char* const y =
      to.y + (static_cast<std::int64_t>(column) * to.stride + static_cast<std::int64_t>(to.segment.y_column + row)) *
                 (to.type == Float::f32 ? 4 : 2);
  const bool whole = left >= 8 && reinterpret_cast<std::uintptr_t>(y) % 16 == 0;
  if (to.type == Float::f32) {
    if (whole) {
      reinterpret_cast<float4*>(y)[0] = reinterpret_cast<const float4*>(numbers)[0];
      reinterpret_cast<float4*>(y)[1] = reinterpret_cast<const float4*>(numbers)[1];
      return;
    }
    for (unsigned i = 0; i < 8 && i < left; ++i) reinterpret_cast<float*>(y)[i] = numbers[i];
    return;
  }
  uint4 words;
  words.x = narrow_pair_as(to.type, numbers[0], numbers[1]);
  words.y = narrow_pair_as(to.type, numbers[2], numbers[3]);
  words.z = narrow_pair_as(to.type, numbers[4], numbers[5]);
  words.w = narrow_pair_as(to.type, numbers[6], numbers[7]);
  if (whole) {
    *reinterpret_cast<uint4*>(y) = words;
    return;
  }
  for (unsigned i = 0; i < 8 && i < left; ++i) {
    const std::uint32_t word = i < 4 ? (i < 2 ? words.x : words.y) : (i < 6 ? words.z : words.w);
    reinterpret_cast<std::uint16_t*>(y)[i] = static_cast<std::uint16_t>(word >> 16 * (i % 2));
  }
}

// c: sums as products leave them, c[4j ..] of columns 8j .. 8j + 7. staging: kStagingBytes of the warp's own.
template <unsigned columns>
CDNA_DEVICE void store_rows(const OutputRows& to, const float* c, float* staging, unsigned lane) {
  float scale[2] = {1.0F, 1.0F};
  float bias[2] = {0.0F, 0.0F};
#pragma unroll
  for (unsigned half = 0; half < 2; ++half) {
    const std::uint32_t row = to.row + lane / 4 + 8 * half;
    if (row < to.segment.weights.rows) {
      if (to.segment.weights.row_scales != nullptr) scale[half] = to.segment.weights.row_scales[row];
      if (to.segment.bias != nullptr) bias[half] = load_float(to.segment.bias, to.type, row);
    }
  }
#pragma unroll
  for (unsigned part = 0; part < columns / kStagingColumns; ++part) {
    __syncwarp();
#pragma unroll
    for (unsigned i = 0; i < kStagingColumns / 2; ++i) {  // Number i % 4 of columns 8 (i / 4) ..
      const unsigned half = i % 4 / 2;
      const unsigned column = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
      staging[kStagingRow * column + lane / 4 + 8 * half] =
          c[part * kStagingColumns / 2 + i] * scale[half] + bias[half];
    }
    __syncwarp();
#pragma unroll
    for (unsigned i = 0; i < kStagingColumns / 16; ++i) {
      const unsigned column = 16 * i + lane / 2;
      store_eight(to, staging + kStagingRow * column + 8 * (lane % 2), to.batch + part * kStagingColumns + column,
                  lane % 2);
    }
  }
}

}  // namespace cdna_cuda
