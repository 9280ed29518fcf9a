// Tile: what Tensor::read_rows() would return, in the order that kernels like.
#include "libcdna/matmul/tile.hpp"

#include <algorithm>
#include <cmath>

#include "libcdna/format/float_bits.hpp"
#include "libcdna/matmul/kernels.hpp"

namespace cdna {

Tile::Tile(const Job& job, const Weights& weights, bool words, Shape shape)
    : job_(job),
      weights_(weights),
      order_(weights.order(words ? Math::bf16 : Math::f32)),
      words_used_(words),
      shape_(shape),
      scales_(shape.cols / CDNA_SCALE_COLUMNS),
      f32_(words ? shape.cols : shape.rows * stride_of(shape)),
      words_(words ? shape.rows * stride_of(shape) : 0) {}

std::uint64_t Tile::scratch_bytes(Shape shape) {
  return shape.rows * (stride_of(shape) * sizeof(float) + sizeof(WeightRow)) + shape.cols * sizeof(float);
}

float Tile::factor_of(const WeightRow& row) const {
  if (!words_used_ || weights_.form != WeightForm::codes || weights_.decoder.group != 0) return 1;
  if (!weights_.decoder.has_row_scale) return 1;
  // Quotients of outliers stay far from the ends of f32.
  constexpr float kSmall = 0x1p-60F;
  constexpr float kLarge = 0x1p60F;
  const auto fits = [](float value) { return std::abs(value) < kLarge; };
  if (!(std::abs(row.row_scale) > kSmall) || !fits(row.row_scale)) return 1;
  for (std::uint64_t o = row.outlier_begin; o < row.outlier_end; ++o) {
    if (!fits(outlier_value(weights_, *row.block, o))) return 1;
  }
  return row.row_scale;
}

void Tile::decode(std::uint64_t first, std::uint64_t count) {
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    if (weights_.form == WeightForm::codes) {
      decode_codes(r, first, count);
      put_outliers(r, first, count);
    } else {
      decode_values(rows_[r], first, count, r * stride());
    }
  }
}

namespace {

// The next columns of the row, which the CPU would not guess: the next that it sees are another row's.
void prefetch_behind(std::span<const std::byte> data, std::uint64_t begin, std::uint64_t count) {
  constexpr std::uint64_t kLineBytes = 64;
  const std::uint64_t end = std::min(begin + count, data.size());
  for (; begin < end; begin += kLineBytes) __builtin_prefetch(data.data() + begin);
}

}  // namespace

void Tile::decode_codes(std::size_t number, std::uint64_t first, std::uint64_t count) {
  const WeightRow& row = rows_[number];
  const std::uint64_t place = number * stride();
  const RowDecoder& decoder = weights_.decoder;
  const std::uint64_t at = first * decoder.bits / 8;
  cdna_code_row codes{reinterpret_cast<const std::uint8_t*>(row.data.data()) + at, count, nullptr};
  const std::uint64_t bytes = shape_.cols * decoder.bits / 8;
  prefetch_behind(row.data, at + bytes, bytes);
  const bool row_scaled = decoder.has_row_scale && factors_[number] == 1;
  if (decoder.group != 0 || row_scaled) {
    fill_scales(weights_, row, first, count, row_scaled ? &row.row_scale : nullptr, f32_kernels(job_.isa),
                scales_.data());
    codes.scales = scales_.data();
  }
  if (words_used_) {
    bf16_kernels(job_.isa).decode(weights_.lookup, &codes, words_.data() + place);
    clear_words(place, count);
  } else {
    f32_kernels(job_.isa).decode(weights_.lookup, &codes, f32_.data() + place);
  }
}

// Past the last column: what code 0 stands for need not be finite once it is scaled.
void Tile::clear_words(std::uint64_t place, std::uint64_t count) {
  const std::uint64_t first = count / CDNA_CHUNK * CDNA_CHUNK;
  for (std::uint64_t column = count; column < whole_chunks(count); ++column)
    words_[place + first + order_.position_of(column - first)] = 0;
}

void Tile::decode_values(const WeightRow& row, std::uint64_t first, std::uint64_t count, std::uint64_t place) {
  float* const values = f32_.data() + (words_used_ ? 0 : place);
  const std::uint64_t padded = whole_chunks(count);
  widen_piece(weights_, row, first, count, values);
  std::fill(values + count, values + padded, 0.0F);
  if (words_used_) {
    bf16_kernels(job_.isa).round(values, padded, words_.data() + place);
  } else if (job_.math == Math::bf16) {
    for (std::uint64_t j = 0; j < count; ++j) values[j] = f32_of_bf16(bf16_of_f32(values[j]));
  }
}

void Tile::put_outliers(std::uint64_t number, std::uint64_t first, std::uint64_t count) {
  const WeightRow& row = rows_[number];
  for (std::uint64_t o = row.first_outlier_from(first); o < row.outlier_end; ++o) {
    const std::uint64_t column = row.outlier_column(o);
    if (column >= first + count) return;
    const std::uint64_t place = number * stride() + order_.position_of(column - first);
    const float value = outlier_value(weights_, *row.block, o) / factors_[number];
    const std::uint16_t narrow = bf16_of_f32(value);
    if (words_used_) {
      words_[place] = narrow;
    } else {
      f32_[place] = job_.math == Math::bf16 ? f32_of_bf16(narrow) : value;
    }
  }
}

}  // namespace cdna
