// Products of f32 with codes and values, of matmul.h. Included by a file that includes f32_vectors.h and defines, in an
// unnamed namespace,
//   F32 multiply_add(F32 a, F32 b, F32 c);  One rounding.
//   F32 broadcast(float);
//   template <bool kNibbles>  Lane l of register s: scales[(s * kLanes + l) / 8], with kNibbles scales[.. / 4].
//   F32 lane_scales(const float* scales, size_t s);
//   template <class Body> with_entries(const cdna_lookup&, const Body&);  Calls body(entries), one of its
//   struct Entries { static constexpr cdna_order kOrder; size_t block_bytes;
//     Block block(const uint8_t* codes) const;          Of 64 codes (4 bits: 128); touches block_bytes.
//     F32 entry(const Block&, int r) const;             Entries / entry_unit, the r-th register of them.
//     F32 whole_entry(const Block&, int r) const;       The entries themselves; without it entry_unit is 1.
//     static constexpr bool kIsLong; };                 If block() should be inlined in the hottest loop only.
//   void look_up(...), as in matmul.h, and the tiles' sizes (f32_tile.h).
#include "kernels/cpu/f32_tile.h"

namespace {

// Bytes. One row is read at a time, and rows follow each other: 2 KiB ahead is where memory is busy and pages are near.
constexpr size_t kPrefetchAhead = 2048;

template <class Entries>
constexpr size_t kBlock = Entries::kOrder == CDNA_ORDER_NIBBLES ? 128 : 64;

template <class Entries>
constexpr size_t kScales = kBlock<Entries> / CDNA_SCALE_COLUMNS;

template <class Entries>
constexpr int kRegisters = static_cast<int>(kBlock<Entries>) / kLanes;

// How many of a block's columns there are.
struct Whole {};
struct Part {
  size_t columns;
};

template <cdna_order kOrder>
CDNA_INLINE F32 clear_past_end(F32 w, int, Whole) {
  return w;
}

template <cdna_order kOrder>
CDNA_INLINE F32 clear_past_end(F32 w, int r, Part part) {
  const I32 past = columns_of<kOrder>(r) >= static_cast<int32_t>(part.columns);
  return (F32)((I32)w & ~past);
}

template <class Entries>
__attribute__((noinline)) typename Entries::Block block_apart(const Entries& entries, const uint8_t* codes) {
  return entries.block(codes);
}

template <class Entries>
CDNA_INLINE typename Entries::Block block_of(const Entries& entries, const uint8_t* codes) {
  if constexpr (requires { Entries::kIsLong; }) return block_apart(entries, codes);
  return entries.block(codes);
}

template <class Entries>
CDNA_INLINE typename Entries::Block hot_block_of(const Entries& entries, const uint8_t* codes, Whole) {
  return entries.block(codes);
}

template <class Entries>
CDNA_INLINE typename Entries::Block hot_block_of(const Entries& entries, const uint8_t* codes, Part) {
  return block_of(entries, codes);
}

// kRows rows of codes, as add_codes has them.
struct CodeRows {
  cdna_code_row first;
  size_t row_bytes;
  size_t scale_stride;
};

// Calls each(column, codes[kRows], scales[kRows], Whole or Part) for each block of columns; the last one's codes and
// scales are padded copies.
template <class Entries, bool kScaled, size_t kRows, class Each>
CDNA_INLINE void for_blocks(const Entries& entries, const CodeRows& rows, const Each& each) {
  const size_t count = rows.first.count;
  const uint8_t* codes[kRows];
  const float* scales[kRows];
  for (size_t k = 0; k < kRows; ++k) {
    codes[k] = rows.first.codes + k * rows.row_bytes;
    scales[k] = kScaled ? rows.first.scales + k * rows.scale_stride : nullptr;
  }
  size_t column = 0;
  for (; count - column >= kBlock<Entries>; column += kBlock<Entries>) {
    for (size_t k = 0; k < kRows; ++k) __builtin_prefetch(codes[k] + kPrefetchAhead);
    each(column, codes, scales, Whole{});
    for (size_t k = 0; k < kRows; ++k) {
      codes[k] += entries.block_bytes;
      if constexpr (kScaled) scales[k] += kScales<Entries>;
    }
  }
  if (column == count) return;
  const size_t left = count - column;
  uint8_t last_codes[kRows][64] = {};
  float last_scales[kRows][kScales<Entries>] = {};
  for (size_t k = 0; k < kRows; ++k) {
    copy(last_codes[k], codes[k], (left * entries.block_bytes + kBlock<Entries> - 1) / kBlock<Entries>);
    codes[k] = last_codes[k];
    if constexpr (kScaled) {
      copy(last_scales[k], scales[k], (left + CDNA_SCALE_COLUMNS - 1) / CDNA_SCALE_COLUMNS * sizeof(float));
      scales[k] = last_scales[k];
    }
  }
  each(column, codes, scales, Part{left});
}

// A block's scales, in registers: stores to y could change them, for all that the compiler knows.
template <size_t kScales, bool kScaled>
struct BlockScales {
  CDNA_INLINE void load(const float*) {}
};

template <size_t kScales>
struct BlockScales<kScales, true> {
  CDNA_INLINE void load(const float* from) {
    for (int s = 0; s < kSumVectors; ++s) lanes[s] = lane_scales<kScales == 4>(from, static_cast<size_t>(s));
  }
  CDNA_INLINE F32 of(int r) const { return lanes[r % kSumVectors]; }
  F32 lanes[kSumVectors];
};

template <class Entries, bool kScaled>
using ScalesOf = BlockScales<kScales<Entries>, kScaled>;

template <class Entries>
CDNA_INLINE F32 whole_entry(const Entries& entries, const typename Entries::Block& block, int r) {
  if constexpr (requires { entries.whole_entry(block, r); }) return entries.whole_entry(block, r);
  return entries.entry(block, r);
}

// An entry, divided or not, as a weight.
template <class Entries, bool kScaled, class Extent>
CDNA_INLINE F32 weight(F32 entry, const ScalesOf<Entries, kScaled>& scales, int r, Extent extent) {
  if constexpr (kScaled) entry *= scales.of(r);
  return clear_past_end<Entries::kOrder>(entry, r, extent);
}

// Adds a block's products to register s of the sums. Registers of x are at x, in packed order.
template <class Entries, bool kScaled, size_t kM, class Extent>
CDNA_INLINE void add_products(const Entries& entries, const typename Entries::Block& block,
                              const ScalesOf<Entries, kScaled>& scales, int s, Extent extent, const float* x,
                              size_t x_stride, F32 (&sums)[kM][kSumVectors]) {
  F32 t[kM] = {};
  CDNA_UNROLL(8)
  for (int r = s; r < kRegisters<Entries>; r += kSumVectors) {
    const F32 w = clear_past_end<Entries::kOrder>(entries.entry(block, r), r, extent);
    for (size_t i = 0; i < kM; ++i) {
      const F32 xs = load<F32>(x + i * x_stride + r * kLanes);
      t[i] = r == s ? xs * w : multiply_add(xs, w, t[i]);
    }
  }
  for (size_t i = 0; i < kM; ++i) {
    if constexpr (kScaled) {
      sums[i][s] = multiply_add(t[i], scales.of(s), sums[i][s]);
    } else {
      sums[i][s] += t[i];
    }
  }
}

template <class Entries, bool kScaled, size_t kM>
void dot_row(const Entries& entries, const cdna_code_row& row, const float* x, size_t x_stride,
             float (*sums)[CDNA_SUM_LANES]) {
  F32 sum[kM][kSumVectors];
  copy(sum, sums, sizeof sum);
  for_blocks<Entries, kScaled, 1>(
      entries, {row, 0, 0},
      [&](size_t column, const uint8_t* const* codes, const float* const* scales, auto extent)
          __attribute__((always_inline)) {
            const auto block = hot_block_of(entries, codes[0], extent);
            ScalesOf<Entries, kScaled> block_scales;
            block_scales.load(scales[0]);
            for (int s = 0; s < kSumVectors; ++s)
              add_products<Entries, kScaled>(entries, block, block_scales, s, extent, x + column, x_stride, sum);
          });
  copy(sums, sum, sizeof sum);
}

template <class Entries, bool kScaled>
CDNA_INLINE void dot_rows(const Entries& entries, const cdna_code_row& row, const float* x, size_t x_stride, size_t m,
                          float (*sums)[CDNA_SUM_LANES]) {
  switch (m) {
    case 1:
      return dot_row<Entries, kScaled, 1>(entries, row, x, x_stride, sums);
    case 2:
      return dot_row<Entries, kScaled, 2>(entries, row, x, x_stride, sums);
    case 3:
      return dot_row<Entries, kScaled, 3>(entries, row, x, x_stride, sums);
    case 4:
      return dot_row<Entries, kScaled, 4>(entries, row, x, x_stride, sums);
    default:
      return;
  }
}

void dot_codes(const cdna_lookup* table, const cdna_code_row* row, const float* x, size_t x_stride, size_t m,
               float (*sums)[CDNA_SUM_LANES]) {
  with_entries(
      *table, [&](const auto& entries) __attribute__((always_inline)) {
        using Entries = EntriesOf<decltype(entries)>;
        if (row->scales != nullptr) return dot_rows<Entries, true>(entries, *row, x, x_stride, m, sums);
        return dot_rows<Entries, false>(entries, *row, x, x_stride, m, sums);
      });
}

template <size_t kM>
void dot_value_row(const float* w, size_t count, const float* x, size_t x_stride, float (*sums)[CDNA_SUM_LANES]) {
  F32 sum[kM][kSumVectors];
  copy(sum, sums, sizeof sum);
  float last[64] = {};
  for (size_t column = 0; column < count; column += 64) {
    const float* from = w + column;
    if (count - column < 64) {
      copy(last, from, (count - column) * sizeof(float));
      from = last;
    } else {
      __builtin_prefetch(from + kPrefetchAhead / sizeof(float));
      __builtin_prefetch(from + kPrefetchAhead / sizeof(float) + 16);
      __builtin_prefetch(from + kPrefetchAhead / sizeof(float) + 32);
      __builtin_prefetch(from + kPrefetchAhead / sizeof(float) + 48);
    }
    for (int s = 0; s < kSumVectors; ++s) {
      F32 t[kM] = {};
      CDNA_UNROLL(4)
      for (int r = s; r < 64 / kLanes; r += kSumVectors) {
        const F32 ws = load<F32>(from + r * kLanes);
        for (size_t i = 0; i < kM; ++i) {
          const F32 xs = load<F32>(x + i * x_stride + column + static_cast<size_t>(r * kLanes));
          t[i] = r == s ? xs * ws : multiply_add(xs, ws, t[i]);
        }
      }
      for (size_t i = 0; i < kM; ++i) sum[i][s] += t[i];
    }
  }
  copy(sums, sum, sizeof sum);
}

void dot_values(const float* w, size_t count, const float* x, size_t x_stride, size_t m,
                float (*sums)[CDNA_SUM_LANES]) {
  switch (m) {
    case 1:
      return dot_value_row<1>(w, count, x, x_stride, sums);
    case 2:
      return dot_value_row<2>(w, count, x, x_stride, sums);
    case 3:
      return dot_value_row<3>(w, count, x, x_stride, sums);
    case 4:
      return dot_value_row<4>(w, count, x, x_stride, sums);
    default:
      return;
  }
}

// Adds kRows rows. factors[i * factor_stride + k] is row k's of the i-th y.
template <class Entries, bool kScaled, size_t kRows>
void add_rows(const Entries& entries, const CodeRows& rows, const float* factors, size_t factor_stride, size_t m,
              float* y, size_t y_stride) {
  for_blocks<Entries, kScaled, kRows>(
      entries, rows,
      [&](size_t column, const uint8_t* const* codes, const float* const* scales, auto extent)
          __attribute__((always_inline)) {
            typename Entries::Block blocks[kRows];
            ScalesOf<Entries, kScaled> block_scales[kRows];
            for (size_t k = 0; k < kRows; ++k) {
              blocks[k] = block_of(entries, codes[k]);
              block_scales[k].load(scales[k]);
            }
            CDNA_UNROLL(8)
            for (int r = 0; r < kRegisters<Entries>; ++r) {
              F32 w[kRows];
              for (size_t k = 0; k < kRows; ++k)
                w[k] = weight<Entries, kScaled>(entries.entry(blocks[k], r), block_scales[k], r, extent);
              for (size_t i = 0; i < m; ++i) {
                float* const place = y + i * y_stride + column + static_cast<size_t>(r * kLanes);
                F32 sum = load<F32>(place);
                for (size_t k = 0; k < kRows; ++k)
                  sum = multiply_add(broadcast(factors[i * factor_stride + k]), w[k], sum);
                store(place, sum);
              }
            }
          });
}

template <class Entries, bool kScaled>
CDNA_INLINE void add_all_rows(const Entries& entries, CodeRows rows, size_t count, const float* factors, size_t m,
                              float* y, size_t y_stride) {
  const auto advance = [&](size_t k) {
    rows.first.codes += k * rows.row_bytes;
    if constexpr (kScaled) rows.first.scales += k * rows.scale_stride;
  };
  size_t row = 0;
  for (; count - row >= kAddRows; row += kAddRows, advance(kAddRows))
    add_rows<Entries, kScaled, kAddRows>(entries, rows, factors + row, count, m, y, y_stride);
  for (; row < count; ++row, advance(1))
    add_rows<Entries, kScaled, 1>(entries, rows, factors + row, count, m, y, y_stride);
}

void add_codes(const cdna_lookup* table, const cdna_code_row* first, size_t rows, size_t row_bytes, size_t scale_stride,
               const float* factors, size_t m, float* y, size_t y_stride) {
  const CodeRows from = {*first, row_bytes, scale_stride};
  with_entries(
      *table, [&](const auto& entries) __attribute__((always_inline)) {
        using Entries = EntriesOf<decltype(entries)>;
        if (first->scales != nullptr) return add_all_rows<Entries, true>(entries, from, rows, factors, m, y, y_stride);
        return add_all_rows<Entries, false>(entries, from, rows, factors, m, y, y_stride);
      });
}

template <class Entries, bool kScaled>
void decode_row(const Entries& entries, const cdna_code_row& row, float* out) {
  for_blocks<Entries, kScaled, 1>(
      entries, {row, 0, 0},
      [&](size_t column, const uint8_t* const* codes, const float* const* scales, auto extent)
          __attribute__((always_inline)) {
            const auto block = block_of(entries, codes[0]);
            ScalesOf<Entries, kScaled> block_scales;
            block_scales.load(scales[0]);
            CDNA_UNROLL(8)
            for (int r = 0; r < kRegisters<Entries>; ++r) {
              const F32 entry = whole_entry(entries, block, r);
              const F32 w = weight<Entries, kScaled>(entry, block_scales, r, extent);
              store(out + column + r * kLanes, w);
            }
          });
  const size_t written = (row.count + kBlock<Entries> - 1) / kBlock<Entries> * kBlock<Entries>;
  const size_t chunks_end = (row.count + CDNA_CHUNK - 1) / CDNA_CHUNK * CDNA_CHUNK;
  for (size_t p = written; p < chunks_end; ++p) out[p] = 0.0F;
}

void decode(const cdna_lookup* table, const cdna_code_row* row, float* out) {
  with_entries(
      *table, [&](const auto& entries) __attribute__((always_inline)) {
        using Entries = EntriesOf<decltype(entries)>;
        if (row->scales != nullptr) return decode_row<Entries, true>(entries, *row, out);
        return decode_row<Entries, false>(entries, *row, out);
      });
}

constexpr cdna_f32_kernels kKernels = {dot_codes, dot_values, add_codes, decode, look_up, multiply};

}  // namespace
