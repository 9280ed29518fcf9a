// The loops of cdna_bf16_kernels. Included by a file that includes bf16_vectors.h and defines, in an unnamed namespace,
//   Pairs, pairs_of(U32)         pairs of bf16 as they are multiplied
//   dot(F32 sum, Pairs, Pairs)   sum + products of the first + products of the second numbers
//   multiply_add(a, b, c)        a * b + c
//   kTileRows, kTileVectors      how much of c multiply() holds in registers
//   NibbleEntries, ByteEntries<kIndexBits>, of codes of 4 bits and of others (code_entries.h), each an
//     struct Entries { explicit Entries(const cdna_lookup&); static constexpr bool kNibbles; StepShape shape;
//       // A step's weights in packed order, kStepVectors<kNibbles>: as bf16; with scales, rounded after them.
//       void words(const uint8_t* codes, U32* out) const;
//       void scaled_words(const uint8_t* codes, const float* scales, U32* out) const; };
//   lane_scales<kNibbles>(scales, i)   those of the lanes of a step's vectors i, i + kScaleVectors, ...
#include "kernels/cpu/bf16_vectors.h"
#include "kernels/cpu/code_entries.h"
#include "kernels/cpu/row_steps.h"

namespace {

// Partial sums of one row of x. A single row has more of them, or it would wait for each.
template <size_t kRows>
constexpr size_t kSums = kRows == 1        ? 4
                         : kSumVectors < 2 ? 2
                                           : kSumVectors;

template <size_t kCount>
CDNA_INLINE void add_sums(const F32 (&sum)[kCount], float (&lanes)[CDNA_SUM_LANES]) {
  unrolled<kCount>([&](size_t v) __attribute__((always_inline)) {
    float* to = lanes + v % kSumVectors * kLanes;
    store(to, load<F32>(to) + sum[v]);
  });
}

template <size_t kVectors, size_t kCount>
CDNA_INLINE void add_products(const Pairs (&w)[kVectors], const uint16_t* x, F32 (&sum)[kCount]) {
  unrolled<kVectors>([&](size_t v) __attribute__((always_inline)) {
    sum[v % kCount] = dot(sum[v % kCount], w[v], pairs_of(load<U32>(x + v * kWords)));
  });
}

template <class Entries, size_t kRows, bool kScaled>
__attribute__((noinline)) void dot_row(const cdna_lookup& table, const cdna_code_row& row, const uint16_t* x,
                                       size_t x_stride, float (*sums)[CDNA_SUM_LANES]) {
  constexpr bool kNibbles = Entries::kNibbles;
  constexpr size_t kVectors = kStepVectors<kNibbles>;
  const Entries entries(table);
  F32 sum[kRows][kSums<kRows>] = {};
  for_steps(
      row, table.bits, entries.shape,
      steps_of(row, entries.shape), [&](const uint8_t* codes, size_t step) __attribute__((always_inline)) {
        U32 words[kVectors];
        Pairs w[kVectors];
        entries.words(codes, words);
        for (size_t v = 0; v < kVectors; ++v) w[v] = pairs_of(words[v]);
        const uint16_t* at = x + step * kStepColumns<kNibbles>;
        unrolled<kRows>([&](size_t i) __attribute__((always_inline)) {
          if constexpr (kScaled) {
            F32 t[kScaleVectors] = {};
            add_products(w, at + i * x_stride, t);
            const float* scales = row.scales + step * (kStepColumns<kNibbles> / CDNA_SCALE_COLUMNS);
            unrolled<kScaleVectors>([&](size_t s) __attribute__((always_inline)) {
              sum[i][s] = multiply_add(t[s], lane_scales<kNibbles>(scales, s), sum[i][s]);
            });
          } else {
            add_products(w, at + i * x_stride, sum[i]);
          }
        });
      });
  unrolled<kRows>([&](size_t i) __attribute__((always_inline)) { add_sums(sum[i], sums[i]); });
}

void dot_codes(const cdna_lookup* table, const cdna_code_row* row, const uint16_t* x, size_t x_stride, size_t m,
               float (*sums)[CDNA_SUM_LANES]) {
  with_entries<NibbleEntries, ByteEntries>(table->bits, [&](auto type) {
    using Entries = typename decltype(type)::Of;
    with_count<CDNA_DOT_ROWS_MAX>(m, [&](auto rows) {
      if (row->scales != nullptr)
        dot_row<Entries, rows.kValue, true>(*table, *row, x, x_stride, sums);
      else
        dot_row<Entries, rows.kValue, false>(*table, *row, x, x_stride, sums);
    });
  });
}

template <size_t kRows>
__attribute__((noinline)) void dot_value_row(const uint16_t* w, size_t count, const uint16_t* x, size_t x_stride,
                                             float (*sums)[CDNA_SUM_LANES]) {
  constexpr size_t kStep = 4 * kWords;
  F32 sum[kRows][kSums<kRows>] = {};
  uint16_t rest[kStep] = {};
  __builtin_memcpy(rest, w + count / kStep * kStep, count % kStep * sizeof *w);
  for (size_t begin = 0; begin < count; begin += kStep) {
    const uint16_t* from = count - begin < kStep ? rest : w + begin;
    __builtin_prefetch(from + kPrefetchBytes);
    Pairs values[4];
    for (size_t v = 0; v < 4; ++v) values[v] = pairs_of(load<U32>(from + v * kWords));
    unrolled<kRows>([&](size_t i)
                        __attribute__((always_inline)) { add_products(values, x + i * x_stride + begin, sum[i]); });
  }
  unrolled<kRows>([&](size_t i) __attribute__((always_inline)) { add_sums(sum[i], sums[i]); });
}

void dot_values(const uint16_t* w, size_t count, const uint16_t* x, size_t x_stride, size_t m,
                float (*sums)[CDNA_SUM_LANES]) {
  with_count<CDNA_DOT_ROWS_MAX>(m, [&](auto rows) { dot_value_row<rows.kValue>(w, count, x, x_stride, sums); });
}

template <class Entries, bool kScaled>
__attribute__((noinline)) void decode_row(const cdna_lookup& table, const cdna_code_row& row, uint16_t* out) {
  constexpr size_t kColumns = kStepColumns<Entries::kNibbles>;
  const Entries entries(table);
  for_steps(
      row, table.bits, entries.shape,
      steps_of_chunks(row, entries.shape), [&](const uint8_t* codes, size_t step) __attribute__((always_inline)) {
        U32 words[kStepVectors<Entries::kNibbles>];
        if constexpr (kScaled)
          entries.scaled_words(codes, row.scales + step * (kColumns / CDNA_SCALE_COLUMNS), words);
        else
          entries.words(codes, words);
        __builtin_memcpy(out + step * kColumns, words, sizeof words);
      });
}

void decode(const cdna_lookup* table, const cdna_code_row* row, uint16_t* out) {
  with_entries<NibbleEntries, ByteEntries>(table->bits, [&](auto type) {
    using Entries = typename decltype(type)::Of;
    if (row->scales != nullptr)
      decode_row<Entries, true>(*table, *row, out);
    else
      decode_row<Entries, false>(*table, *row, out);
  });
}

void round(const float* in, size_t count, uint16_t* out) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    store(out + i, __builtin_convertvector(rounded(load<F32>(in + i)) >> 16, HalfU16));
  for (; i < count; ++i) {
    const U32 bits = rounded(broadcast(in[i]));
    out[i] = static_cast<uint16_t>(bits[0] >> 16);
  }
}

// c's tile stays in registers. Of a a pair is repeated in all lanes.
template <size_t kRows, size_t kVectors>
__attribute__((noinline)) void multiply_tile(const uint16_t* a, size_t lda, const uint16_t* b, size_t ldb, size_t depth,
                                             float* c, size_t ldc) {
  F32 sum[kRows][kVectors];
  for (size_t i = 0; i < kRows; ++i)
    for (size_t v = 0; v < kVectors; ++v) sum[i][v] = load<F32>(c + i * ldc + v * kLanes);
  for (size_t t = 0; t < depth; t += 2) {
    Pairs right[kVectors];
    for (size_t v = 0; v < kVectors; ++v) right[v] = pairs_of(load<U32>(b + t * ldb + v * kWords));
    for (size_t i = 0; i < kRows; ++i) {
      const Pairs left = pairs_of(U32{} + load<uint32_t>(a + i * lda + t));
      for (size_t v = 0; v < kVectors; ++v) sum[i][v] = dot(sum[i][v], left, right[v]);
    }
  }
  for (size_t i = 0; i < kRows; ++i)
    for (size_t v = 0; v < kVectors; ++v) store(c + i * ldc + v * kLanes, sum[i][v]);
}

template <size_t kVectors>
void multiply_rows(const uint16_t* a, size_t lda, size_t rows, const uint16_t* b, size_t ldb, size_t depth, float* c,
                   size_t ldc) {
  size_t i = 0;
  for (; rows - i >= kTileRows; i += kTileRows)
    multiply_tile<kTileRows, kVectors>(a + i * lda, lda, b, ldb, depth, c + i * ldc, ldc);
  with_count<kTileRows - 1>(rows - i, [&](auto left) {
    multiply_tile<left.kValue, kVectors>(a + i * lda, lda, b, ldb, depth, c + i * ldc, ldc);
  });
}

void multiply(const uint16_t* a, size_t lda, size_t rows, const uint16_t* b, size_t ldb, size_t lanes, size_t depth,
              float* c, size_t ldc) {
  size_t j = 0;
  for (; lanes - j >= kTileVectors * kLanes; j += kTileVectors * kLanes)
    multiply_rows<kTileVectors>(a, lda, rows, b + 2 * j, ldb, depth, c + j, ldc);
  with_count<kTileVectors - 1>((lanes - j) / kLanes, [&](auto left) {
    multiply_rows<left.kValue>(a, lda, rows, b + 2 * j, ldb, depth, c + j, ldc);
  });
}

constexpr cdna_bf16_kernels kKernels = {dot_codes, dot_values, decode, round, multiply};

}  // namespace
