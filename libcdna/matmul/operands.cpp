// Conversions of x and y. What they cost is small against the product: O(1) per element of x and y.
#include "libcdna/matmul/operands.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "libcdna/encode/value_rows.hpp"
#include "libcdna/format/float_bits.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kPieceColumns = 4096;  // Converted at a time: whole chunks that stay in the first-level cache.

template <class T>
T load_element(const void* data, std::int64_t place) {
  T value;
  std::memcpy(&value, static_cast<const std::byte*>(data) + place * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
  return value;
}

template <class T>
void store_element(void* data, std::int64_t place, T value) {
  std::memcpy(static_cast<std::byte*>(data) + place * static_cast<std::int64_t>(sizeof(T)), &value, sizeof(T));
}

float element(DType dtype, const void* data, std::int64_t place) {
  switch (dtype) {
    case DType::f16:
      return f32_of_f16(load_element<std::uint16_t>(data, place));
    case DType::bf16:
      return f32_of_bf16(load_element<std::uint16_t>(data, place));
    default:
      return load_element<float>(data, place);
  }
}

template <class Matrix>
std::int64_t place_of(const Matrix& matrix, std::uint64_t i, std::uint64_t j) {
  return static_cast<std::int64_t>(i) * matrix.row_stride + static_cast<std::int64_t>(j) * matrix.col_stride;
}

void read_contiguous(DType dtype, const std::byte* from, std::uint64_t count, float* out) {
  switch (dtype) {
    case DType::f16:
      return codebook_kernels().widen_f16(from, count, out);
    case DType::bf16:
      return codebook_kernels().widen_bf16(from, count, out);
    default:
      std::memcpy(out, from, count * sizeof(float));
  }
}

}  // namespace

ColumnOrder::ColumnOrder(cdna_order order) {
  for (std::uint32_t p = 0; p < CDNA_CHUNK; ++p) {
    column_[p] = static_cast<std::uint8_t>(cdna_packed_column(order, p));
    position_[column_[p]] = static_cast<std::uint8_t>(p);
  }
}

void read_row(const ConstMatrix& x, std::uint64_t i, std::uint64_t begin, std::uint64_t count, float* out) {
  if (x.col_stride == 1) {
    const std::int64_t bytes = static_cast<std::int64_t>(bits_of(x.dtype) / 8);
    return read_contiguous(x.dtype, static_cast<const std::byte*>(x.data) + place_of(x, i, begin) * bytes, count, out);
  }
  for (std::uint64_t j = 0; j < count; ++j) out[j] = element(x.dtype, x.data, place_of(x, i, begin + j));
}

// ---- PackedRows ----

PackedRows::PackedRows(const ConstMatrix& x, std::uint64_t begin, std::uint64_t end, Math math, cdna_order order)
    : math_(math), order_(order), stride_(whole_chunks(x.cols)), scale_stride_(stride_ / kInt8Columns) {
  const std::uint64_t rows = end - begin;
  if (math == Math::f32) f32_ = AlignedBuffer<float>(rows * stride_);
  if (math == Math::bf16) bf16_ = AlignedBuffer<std::uint16_t>(rows * stride_);
  if (math == Math::int8) {
    int8_ = AlignedBuffer<std::int8_t>(rows * stride_);
    scales_ = AlignedBuffer<float>(rows * scale_stride_);
  }
  for (std::uint64_t i = 0; i < rows; ++i) pack_row(x, begin + i, i);
}

void PackedRows::pack_row(const ConstMatrix& x, std::uint64_t from, std::uint64_t i) {
  float piece[kPieceColumns];
  for (std::uint64_t begin = 0; begin < x.cols; begin += kPieceColumns) {
    const std::uint64_t count = std::min(kPieceColumns, x.cols - begin);
    const std::uint64_t padded = whole_chunks(count);
    read_row(x, from, begin, count, piece);
    std::fill(piece + count, piece + padded, 0.0F);
    if (math_ == Math::int8) {
      for (std::uint64_t first = 0; first < padded; first += kInt8Columns) pack_int8(piece + first, begin + first, i);
      continue;
    }
    for (std::uint64_t p = 0; p < padded; ++p) {
      const float value = piece[p / CDNA_CHUNK * CDNA_CHUNK + order_.column_at(p % CDNA_CHUNK)];
      const std::uint64_t place = i * stride_ + begin + p;
      if (math_ == Math::f32) {
        f32_[place] = value;
      } else {
        bf16_[place] = bf16_of_f32(value);
      }
    }
  }
}

void PackedRows::pack_int8(const float* values, std::uint64_t first, std::uint64_t i) {
  float largest = 0;
  bool finite = true;
  for (std::uint64_t j = 0; j < kInt8Columns; ++j) {
    finite = finite && std::isfinite(values[j]);
    largest = std::max(largest, std::abs(values[j]));
  }
  // A scale that is NaN makes the sum NaN, as the missing value would.
  const float scale = finite ? largest / 127.0F : std::numeric_limits<float>::quiet_NaN();
  scales_[i * scale_stride_ + first / kInt8Columns] = scale;
  if (!(scale > 0)) return;
  for (std::uint64_t j = 0; j < kInt8Columns; ++j) {
    const float steps = std::clamp(std::nearbyint(values[j] / scale), -127.0F, 127.0F);
    int8_[i * stride_ + order_.position_of(first + j)] = static_cast<std::int8_t>(steps);
  }
}

u128 PackedRows::bytes(u128 rows, std::uint64_t cols, Math math) {
  const u128 elements = rows * whole_chunks(cols);
  switch (math) {
    case Math::f32:
      return 4 * elements;
    case Math::bf16:
      return 2 * elements;
    case Math::int8:
      return elements + elements / kInt8Columns * 4;
  }
  return 0;
}

// ---- PackedPanels ----

PackedPanels::PackedPanels(std::uint64_t rows, std::uint64_t cols, Math math, cdna_order order)
    : math_(math), order_(order), cols_(cols), lanes_(lanes_of(rows)), depth_(whole_chunks(cols)) {
  if (math == Math::f32) {
    f32_ = AlignedBuffer<float>(lanes_ * depth_);
  } else {
    bf16_ = AlignedBuffer<std::uint16_t>(lanes_ * depth_);
  }
}

PackedPanels::Panel PackedPanels::panel(std::uint64_t number) const {
  const std::uint64_t first = number * kPanelLanes;
  return {first, std::min(kPanelLanes, lanes_ - first)};
}

void PackedPanels::pack(const ConstMatrix& x, std::uint64_t begin, std::uint64_t end, std::uint64_t number) {
  const Panel place = panel(number);
  const std::uint64_t rows = std::min(place.lanes, end - begin - place.first_lane);
  float chunk[kPanelLanes][CDNA_CHUNK] = {};
  for (std::uint64_t first = 0; first < cols_; first += CDNA_CHUNK) {
    const std::uint64_t count = std::min<std::uint64_t>(CDNA_CHUNK, cols_ - first);
    for (std::uint64_t i = 0; i < rows; ++i) {
      read_row(x, begin + place.first_lane + i, first, count, chunk[i]);
      std::fill(chunk[i] + count, chunk[i] + CDNA_CHUNK, 0.0F);
    }
    const std::uint64_t base = place.first_lane * depth_ + first * place.lanes;
    for (std::uint64_t p = 0; p < CDNA_CHUNK; ++p) {
      const std::uint32_t column = order_.column_at(p);
      if (math_ == Math::f32) {
        float* const to = f32_.data() + base + p * place.lanes;
        for (std::uint64_t i = 0; i < rows; ++i) to[i] = chunk[i][column];
      } else {
        std::uint16_t* const to = bf16_.data() + base + p / 2 * 2 * place.lanes + p % 2;
        for (std::uint64_t i = 0; i < rows; ++i) to[2 * i] = bf16_of_f32(chunk[i][column]);
      }
    }
  }
}

u128 PackedPanels::bytes(std::uint64_t rows, std::uint64_t cols, Math math) {
  return u128{lanes_of(rows)} * whole_chunks(cols) * (math == Math::f32 ? 4U : 2U);
}

// ---- Output ----

Output::Output(const Matrix& y, const MatmulOptions& options) : y_(y), accumulate_(options.accumulate) {
  if (!options.bias) return;
  bias_.resize(y.cols);
  if (y.cols != 0) read_row(*options.bias, 0, 0, y.cols, bias_.data());
}

void Output::store(std::uint64_t i, std::uint64_t j, std::uint64_t count, const float* values,
                   std::uint64_t stride) const {
  for (std::uint64_t n = 0; n < count; ++n) {
    const std::int64_t place = place_of(y_, i, j + n);
    float value = values[n * stride];
    if (!bias_.empty()) value += bias_[j + n];
    if (accumulate_) value += element(y_.dtype, y_.data, place);
    switch (y_.dtype) {
      case DType::f16:
        store_element(y_.data, place, f16_of_f32(value));
        break;
      case DType::bf16:
        store_element(y_.data, place, bf16_of_f32(value));
        break;
      default:
        store_element(y_.data, place, value);
    }
  }
}

}  // namespace cdna
