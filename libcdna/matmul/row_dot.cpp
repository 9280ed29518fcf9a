// RowDot: kernels for whole pieces of a row, and outliers one by one.
#include "libcdna/matmul/row_dot.hpp"

#include <algorithm>

#include "libcdna/format/float_bits.hpp"
#include "libcdna/matmul/kernels.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kWidenedColumns = 4096;  // Of values that have to be widened.

float used_entry(const cdna_lookup& table, std::size_t code, Math math) {
  switch (math) {
    case Math::f32:
      return table.values[code];
    case Math::bf16:
      return f32_of_bf16(
          static_cast<std::uint16_t>(table.bf16_planes[0][code] | std::uint32_t{table.bf16_planes[1][code]} << 8));
    case Math::int8: {
      const std::uint32_t fixed = table.fixed_planes[0][code] | std::uint32_t{table.fixed_planes[1][code]} << 8;
      return static_cast<float>(static_cast<std::int32_t>(fixed) - 32768) * table.fixed_step;
    }
  }
  return 0;
}

// What the sums of dot_codes() count in.
float unit_of_sums(const Weights& weights, Math math) {
  if (weights.form != WeightForm::codes || math == Math::bf16) return 1;
  return math == Math::f32 ? weights.lookup->entry_unit : weights.lookup->fixed_step;
}

// Partial sums those 8 apart are added, then 4, 2 and 1.
float sum_of(const float* lanes) {
  float eight[8];
  for (int i = 0; i < 8; ++i) eight[i] = lanes[i] + lanes[i + 8];
  for (int i = 0; i < 4; ++i) eight[i] += eight[i + 4];
  return (eight[0] + eight[2]) + (eight[1] + eight[3]);
}

using Lanes = float (*)[CDNA_SUM_LANES];

}  // namespace

RowDot::RowDot(const Job& job, const Weights& weights, const PackedRows& x, std::uint64_t rows)
    : math_(job.math),
      f32_(f32_kernels(job.isa)),
      bf16_(bf16_kernels(job.isa)),
      int8_(int8_kernels(job.isa)),
      weights_(weights),
      x_(x),
      rows_(rows),
      sums_((rows + kRows - 1) / kRows * kRows * CDNA_SUM_LANES),
      corrections_(rows) {
  const std::uint64_t cols = weights.piece_cols();
  sum_unit_ = unit_of_sums(weights, job.math);
  if (weights.form == WeightForm::codes) {
    scales_.resize(whole_chunks(cols) / CDNA_SCALE_COLUMNS);
    for (std::size_t code = 0; code < entries_.size(); ++code)
      entries_[code] = used_entry(*weights.lookup, code, job.math);
    decoder_ = weights.decoder;
    decoder_.codebook = entries_;
  } else {
    values_ = AlignedBuffer<float>(std::min(cols, kWidenedColumns));
    if (job.math == Math::bf16) words_ = AlignedBuffer<std::uint16_t>(std::min(cols, kWidenedColumns));
  }
}

u128 RowDot::scratch_bytes(std::uint64_t rows, const Weights& weights) {
  const std::uint64_t piece = weights.piece_cols();
  return (u128{rows} + kRows) * (CDNA_SUM_LANES + 1) * 4 +
         std::max(whole_chunks(piece) / 8, 6 * std::min(piece, kWidenedColumns));
}

void RowDot::clear() {
  std::fill_n(sums_.data(), rows_ * CDNA_SUM_LANES, 0.0F);
  std::fill(corrections_.begin(), corrections_.end(), 0.0F);
}

void RowDot::add(const WeightRow& row) {
  if (weights_.form == WeightForm::codes) {
    add_codes(row);
    correct_outliers(row);
  } else {
    add_values(row);
  }
}

void RowDot::add_codes(const WeightRow& row) {
  cdna_code_row codes{reinterpret_cast<const std::uint8_t*>(row.data.data()), row.entry_count, nullptr};
  if (weights_.decoder.group != 0) {
    fill_scales(weights_, row, 0, row.entry_count, nullptr, f32_, scales_.data());
    codes.scales = scales_.data();
  }
  // Long rows in pieces, cut in the file or not: where sums go on must not depend on it.
  for (std::uint64_t begin = 0; begin < row.entry_count; begin += kCutEntries) {
    cdna_code_row piece = codes;
    piece.codes += begin / 8 * decoder_.bits;
    piece.count = std::min(kCutEntries, row.entry_count - begin);
    if (codes.scales != nullptr) piece.scales += begin / CDNA_SCALE_COLUMNS;
    add_piece(piece, row.entry_begin + begin);
  }
}

void RowDot::add_piece(const cdna_code_row& codes, std::uint64_t at) {
  for (std::uint64_t i = 0; i < rows_; i += kRows) {
    const std::uint64_t m = std::min(kRows, rows_ - i);
    const auto sums = reinterpret_cast<Lanes>(sums_.data() + i * CDNA_SUM_LANES);
    switch (math_) {
      case Math::f32:
        f32_.dot_codes(weights_.lookup, &codes, x_.f32(i) + at, x_.stride(), m, sums);
        break;
      case Math::bf16:
        bf16_.dot_codes(weights_.lookup, &codes, x_.bf16(i) + at, x_.stride(), m, sums);
        break;
      case Math::int8:
        int8_.dot_codes(weights_.lookup, &codes, x_.int8(i) + at, x_.stride(), x_.int8_scales(i) + at / 64,
                        x_.scale_stride(), m, sums);
        break;
    }
  }
}

// At an outlier the kernel has added x * (entry * scale): what is missing is x * (value - that).
void RowDot::correct_outliers(const WeightRow& row) {
  for (std::uint64_t o = row.outlier_begin; o < row.outlier_end; ++o) {
    const std::uint64_t column = row.outlier_column(o);
    const float difference = correction(row, column, outlier_value(weights_, *row.block, o));
    for (std::uint64_t i = 0; i < rows_; ++i) corrections_[i] += x_.value(i, row.entry_begin + column) * difference;
  }
}

// To what the kernels of this job see in a code.
float RowDot::correction(const WeightRow& row, std::uint64_t column, float value) const {
  if (decoder_.bits == 8 && decoder_.group == 0)
    return outlier_difference(value, entries_[std::to_integer<std::size_t>(row.data[column])], row.row_scale);
  const std::uint64_t group = decoder_.group == 0 ? 0 : column / decoder_.group;
  const float scale = decoder_.scale(row.row_scale, row.group_scales, group);
  return outlier_difference(value, decoder_.entry(row.data, column), scale);
}

void RowDot::add_values(const WeightRow& row) {
  for (std::uint64_t begin = 0; begin < row.entry_count; begin += kWidenedColumns) {
    const std::uint64_t count = std::min(kWidenedColumns, row.entry_count - begin);
    widen_piece(weights_, row, begin, count, values_.data());
    if (math_ == Math::bf16) bf16_.round(values_.data(), count, words_.data());
    for (std::uint64_t i = 0; i < rows_; i += kRows) {
      const std::uint64_t m = std::min(kRows, rows_ - i);
      const auto sums = reinterpret_cast<Lanes>(sums_.data() + i * CDNA_SUM_LANES);
      const std::uint64_t at = row.entry_begin + begin;
      if (math_ == Math::bf16) {
        bf16_.dot_values(words_.data(), count, x_.bf16(i) + at, x_.stride(), m, sums);
      } else {
        f32_.dot_values(values_.data(), count, x_.f32(i) + at, x_.stride(), m, sums);
      }
    }
  }
}

void RowDot::finish(float row_scale, float* sums) const {
  float scale = weights_.form == WeightForm::codes ? row_scale : 1.0F;
  for (std::uint64_t i = 0; i < rows_; ++i) {
    float sum = sum_of(sums_.data() + i * CDNA_SUM_LANES);
    sum *= sum_unit_;
    sums[i] = sum * scale + corrections_[i];
  }
}

}  // namespace cdna
