// A matrix of f16, bf16 or f32 in memory, with a stride and any place of its first element: x and y of products.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../../kernels/cuda/linear.h"
#include "../random.hpp"
#include "../small_floats.hpp"

namespace cdna::test {

class FloatMatrix {
 public:
  // Every byte poisoned. The first element is `offset` elements behind an address that is aligned to 16; stride >=
  // cols.
  FloatMatrix(cdna_cuda::Float type, std::size_t rows, std::size_t cols, std::size_t stride, std::size_t offset = 0)
      : type_(type), rows_(rows), cols_(cols), stride_(stride), offset_(offset) {
    bytes_.assign((offset + rows * stride) * cdna_cuda::size_of(type), kPoison);
  }

  cdna_cuda::Float type() const { return type_; }
  std::size_t rows() const { return rows_; }
  std::size_t cols() const { return cols_; }
  std::int64_t stride() const { return static_cast<std::int64_t>(stride_); }
  void* data() { return bytes_.data() + offset_ * cdna_cuda::size_of(type_); }
  const std::vector<std::byte>& bytes() const { return bytes_; }

  // Not for NaN, but for f32.
  double at(std::size_t row, std::size_t column) const;
  // Rounds to the type.
  void set(std::size_t row, std::size_t column, double value);
  // As it was before anything was written.
  void poison(std::size_t row, std::size_t column);
  // Bell-shaped, about -2 .. 2.
  void fill(Random* random);
  // All elements, dense, as float64.
  std::vector<double> values() const;
  // Whether every byte that belongs to no element in [0, rows) x [column_begin, column_end) still is poison.
  bool poisoned_outside(std::size_t column_begin, std::size_t column_end) const;

 private:
  static constexpr std::byte kPoison{0x7B};  // As f16, bf16 and f32 a number so large that it is not missed.

  std::size_t place(std::size_t row, std::size_t column) const {
    return (offset_ + row * stride_ + column) * cdna_cuda::size_of(type_);
  }

  cdna_cuda::Float type_;
  std::size_t rows_;
  std::size_t cols_;
  std::size_t stride_;
  std::size_t offset_;
  std::vector<std::byte> bytes_;
};

inline double FloatMatrix::at(std::size_t row, std::size_t column) const {
  const std::byte* const from = bytes_.data() + place(row, column);
  if (type_ == cdna_cuda::Float::f32) {
    float number;
    std::memcpy(&number, from, sizeof(number));
    return number;
  }
  std::uint16_t bits;
  std::memcpy(&bits, from, sizeof(bits));
  return type_ == cdna_cuda::Float::f16 ? value_of_f16(bits) : value_of_bf16(bits);
}

inline void FloatMatrix::set(std::size_t row, std::size_t column, double value) {
  std::byte* const to = bytes_.data() + place(row, column);
  if (type_ == cdna_cuda::Float::f32) {
    const auto number = static_cast<float>(value);
    std::memcpy(to, &number, sizeof(number));
    return;
  }
  const std::uint16_t bits = type_ == cdna_cuda::Float::f16 ? f16_of(value) : bf16_of(value);
  std::memcpy(to, &bits, sizeof(bits));
}

inline void FloatMatrix::poison(std::size_t row, std::size_t column) {
  std::memset(bytes_.data() + place(row, column), static_cast<int>(kPoison), cdna_cuda::size_of(type_));
}

inline void FloatMatrix::fill(Random* random) {
  for (std::size_t row = 0; row < rows_; ++row) {
    const std::vector<float> numbers = random->weights(cols_);
    for (std::size_t column = 0; column < cols_; ++column) set(row, column, numbers[column]);
  }
}

inline std::vector<double> FloatMatrix::values() const {
  std::vector<double> numbers;
  numbers.reserve(rows_ * cols_);
  for (std::size_t row = 0; row < rows_; ++row) {
    for (std::size_t column = 0; column < cols_; ++column) numbers.push_back(at(row, column));
  }
  return numbers;
}

inline bool FloatMatrix::poisoned_outside(std::size_t column_begin, std::size_t column_end) const {
  std::vector<std::byte> rest = bytes_;
  for (std::size_t row = 0; row < rows_; ++row) {
    for (std::size_t i = place(row, column_begin); i < place(row, column_end); ++i) rest[i] = kPoison;
  }
  for (const std::byte byte : rest) {
    if (byte != kPoison) return false;
  }
  return true;
}

}  // namespace cdna::test
