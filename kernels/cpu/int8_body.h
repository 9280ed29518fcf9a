// The loop of cdna_int8_kernels. Included by a file that has defined CDNA_VECTOR_BYTES and defines, in an unnamed
// namespace,
//   multiply_add(a, b, c)              a * b + c
//   NibbleEntries, ByteEntries<kIndexBits>, of codes of 4 bits and of others (code_entries.h), each an
//     struct Entries { explicit Entries(const cdna_lookup&); static constexpr bool kNibbles; StepShape shape;
//       // A step's weights, and the sums of their products with x: vector v has the v-th columns of the step.
//       Weights weights(const uint8_t* codes) const;
//       static void multiply(const Weights&, const int8_t* x, I32 (&sums)[kSumVectors]); };
//   lane_scales<kNibbles>(scales, v)   of 32 columns, for vector v
//   x_scales_of<kNibbles>(scales, v)   of 64 columns
#include "kernels/cpu/code_entries.h"
#include "kernels/cpu/matmul_vectors.h"
#include "kernels/cpu/row_steps.h"

namespace {

template <class Entries, size_t kRows, bool kScaled>
__attribute__((noinline)) void dot_row(const cdna_lookup& table, const cdna_code_row& row, const int8_t* x,
                                       size_t x_stride, const float* x_scales, size_t x_scale_stride,
                                       float (*sums)[CDNA_SUM_LANES]) {
  constexpr bool kNibbles = Entries::kNibbles;
  constexpr size_t kColumns = kStepColumns<kNibbles>;
  const Entries entries(table);
  F32 sum[kRows][kSumVectors] = {};
  for_steps(
      row, table.bits, entries.shape,
      steps_of(row, entries.shape), [&](const uint8_t* codes, size_t step) __attribute__((always_inline)) {
        const auto w = entries.weights(codes);
        unrolled<kRows>([&](size_t i) __attribute__((always_inline)) {
          I32 products[kSumVectors];
          entries.multiply(w, x + i * x_stride + step * kColumns, products);
          const float* of_x = x_scales + i * x_scale_stride + step * (kColumns / 64);
          unrolled<kSumVectors>([&](size_t v) __attribute__((always_inline)) {
            F32 factor = x_scales_of<kNibbles>(of_x, v);
            if constexpr (kScaled)
              factor *= lane_scales<kNibbles>(row.scales + step * (kColumns / CDNA_SCALE_COLUMNS), v);
            sum[i][v] = multiply_add(__builtin_convertvector(products[v], F32), factor, sum[i][v]);
          });
        });
      });
  unrolled<kRows * kSumVectors>([&](size_t i) __attribute__((always_inline)) {
    float* to = sums[i / kSumVectors] + i % kSumVectors * kLanes;
    store(to, load<F32>(to) + sum[i / kSumVectors][i % kSumVectors]);
  });
}

void dot_codes(const cdna_lookup* table, const cdna_code_row* row, const int8_t* x, size_t x_stride,
               const float* x_scales, size_t x_scale_stride, size_t m, float (*sums)[CDNA_SUM_LANES]) {
  with_entries<NibbleEntries, ByteEntries>(table->bits, [&](auto type) {
    using Entries = typename decltype(type)::Of;
    with_count<CDNA_DOT_ROWS_MAX>(m, [&](auto rows) {
      if (row->scales != nullptr)
        dot_row<Entries, rows.kValue, true>(*table, *row, x, x_stride, x_scales, x_scale_stride, sums);
      else
        dot_row<Entries, rows.kValue, false>(*table, *row, x, x_stride, x_scales, x_scale_stride, sums);
    });
  });
}

constexpr cdna_int8_kernels kKernels = {dot_codes};

}  // namespace
