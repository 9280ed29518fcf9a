// Tile: what Tensor::read_rows() would return, in the order that kernels like.
#include "libcdna/matmul/tile.hpp"

#include <algorithm>

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
      f32_(words ? shape.cols : shape.rows * shape.cols),
      words_(words ? shape.rows * shape.cols : 0) {}

std::uint64_t Tile::scratch_bytes(Shape shape) {
  return shape.rows * (shape.cols * sizeof(float) + sizeof(WeightRow)) + shape.cols * sizeof(float);
}

void Tile::decode(std::uint64_t first, std::uint64_t count) {
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    if (weights_.form == WeightForm::codes) {
      decode_codes(rows_[r], first, count, r * shape_.cols);
    } else {
      decode_values(rows_[r], first, count, r * shape_.cols);
    }
    put_outliers(r, first, count);
  }
}

void Tile::decode_codes(const WeightRow& row, std::uint64_t first, std::uint64_t count, std::uint64_t place) {
  const RowDecoder& decoder = weights_.decoder;
  cdna_code_row codes{reinterpret_cast<const std::uint8_t*>(row.data.data()) + first * decoder.bits / 8, count,
                      nullptr};
  if (decoder.group != 0 || decoder.has_row_scale) {
    const float* const row_scale = decoder.has_row_scale ? &row.row_scale : nullptr;
    fill_scales(weights_, row, first, count, row_scale, f32_kernels(job_.isa), scales_.data());
    codes.scales = scales_.data();
  }
  if (words_used_) {
    bf16_kernels(job_.isa).decode(weights_.lookup, &codes, words_.data() + place);
  } else {
    f32_kernels(job_.isa).decode(weights_.lookup, &codes, f32_.data() + place);
  }
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
    const std::uint64_t place = number * shape_.cols + order_.position_of(column - first);
    const float value = outlier_value(weights_, *row.block, o);
    const std::uint16_t narrow = bf16_of_f32(value);
    if (words_used_) {
      words_[place] = narrow;
    } else {
      f32_[place] = job_.math == Math::bf16 ? f32_of_bf16(narrow) : value;
    }
  }
}

}  // namespace cdna
