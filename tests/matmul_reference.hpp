// Products in f64 and the bounds that cdna/matmul.hpp states, computed from what readers hand out; and matrices of the
// caller's in every dtype, with strides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "case_stride.hpp"
#include "cdna/matmul.hpp"
#include "codebook_file.hpp"

namespace cdna::test {

// Throws std::runtime_error with the error's description, if there is one.
void must_do(const Result<void>& result);

// A tensor as the bounds want it. All arrays are [rows, cols].
struct Weights {
  std::uint64_t rows = 0;
  std::uint64_t cols = 0;
  std::vector<float> values;
  std::vector<double> magnitudes;  // |w|; at an outlier |decoded| + |value - decoded|.
  std::vector<double> scales;      // |s|, the scale of w; empty for other encodings than cdna.codebook.
  double entry_max = 0;            // Largest magnitude of the codebook.
};

// Decodes blocks, codebook and scale table by spec/format.md, 13.2, and exact elements by the formats' definitions.
// Throws std::runtime_error where a block cannot be had, or where values are not the bits of Tensor::read_rows().
Weights weights_of(const Reader& reader, const Tensor& tensor);

// x [rows, cols], row-major: any f32.
struct Operand {
  std::uint64_t rows = 0;
  std::uint64_t cols = 0;
  std::vector<float> values;
};

// About normal, of each 64 in a row of another size; every value is a number of `dtype` (F32, F16 or BF16).
Operand random_operand(std::uint64_t rows, std::uint64_t cols, std::uint64_t seed, DType dtype = DType::f32);

// y in f64, and how far a result may be from it. [rows, cols].
struct Product {
  std::uint64_t rows = 0;
  std::uint64_t cols = 0;
  std::vector<double> values;
  std::vector<double> bounds;
};

// With rows [row_begin, row_end) of w.
Product product_of(const Weights& w, std::uint64_t row_begin, std::uint64_t row_end, const Operand& x,
                   Orientation orientation, Math math);
Product product_of(const Weights& w, const Operand& x, Orientation orientation, Math math);

// "" where each y is within its bound, else how many are not and the worst. NaN is never within.
std::string excess(const Product& expected, const std::vector<float>& y);

// "" where two results have the same bits, else how many differ and the first.
std::string difference(const std::vector<float>& a, const std::vector<float>& b);

// A caller's matrix anywhere in a buffer of which every other byte is poisoned.
class StridedMatrix {
 public:
  // Strides in elements, of any sign (x: also 0); `misalignment` in bytes.
  StridedMatrix(DType dtype, std::uint64_t rows, std::uint64_t cols, std::int64_t row_stride, std::int64_t col_stride,
                std::size_t misalignment = 0);
  // Row-major without gaps.
  StridedMatrix(DType dtype, std::uint64_t rows, std::uint64_t cols)
      : StridedMatrix(dtype, rows, cols, static_cast<std::int64_t>(cols), 1) {}

  void set(std::uint64_t row, std::uint64_t col, float value);  // Rounded to the dtype.
  void set(const std::vector<float>& values);                   // Row-major.
  double at(std::uint64_t row, std::uint64_t col) const;
  std::vector<float> values() const;  // Row-major.
  // Whether all bytes that are no element's are as they were.
  bool is_poison_intact() const;

  ConstMatrix input() const;
  Matrix output();

 private:
  std::size_t offset_of(std::uint64_t row, std::uint64_t col) const;

  DType dtype_;
  std::uint64_t rows_;
  std::uint64_t cols_;
  std::int64_t row_stride_;
  std::int64_t col_stride_;
  std::size_t base_ = 0;  // Of element (0, 0) in bytes_.
  Bytes bytes_;
};

// y of a call that succeeds, in f32. Throws std::runtime_error where it does not, or where bytes around y change.
std::vector<float> multiply(std::span<const WeightRows> parts, const Operand& x, const MatmulOptions& options = {});
std::vector<float> multiply(const Tensor& tensor, const Operand& x, const MatmulOptions& options = {});

// Whether Math::int8 is for this tensor.
bool has_int8(const Tensor& tensor);

// What does not hold, each in a line, of products with `m` rows of random x: both orientations, every Math that the
// tensor allows, every instruction set of this machine; results within their bounds, in f32 the same bits. Rows of 2^20
// columns need more scratch memory than the default.
std::vector<std::string> faults_of(const Tensor& tensor, const Weights& w, std::uint64_t m, std::uint64_t seed);

// The instruction sets of this machine, lowest first.
std::vector<Isa> available_isas();

}  // namespace cdna::test
