// Multiplying with rows of weights: from codes without ever storing the values, from values, and as tiles.
//
// Columns are taken in chunks of 128. A kernel may work on the columns of a chunk in another order than that of the
// file, the packed order (cdna_packed_column): x is packed in it before, y is put back after. Past the last column x is
// 0, up to a whole chunk, and w is 0 whatever the entries are (0 times an infinity would be NaN); memory past the codes
// that `count` needs is never touched.
//
// Results in f32 are the same bits on every instruction set: fma is one rounding, partial sums are 16 lanes, and the
// order of operations is the one that each function states. Results of bf16 and int8 products are not.
// Nothing is allocated, nothing can fail; what is written overlaps nothing that is read. A table of functions may be
// called only where the CPU and the operating system have its instruction set.
#ifndef CDNA_KERNELS_CPU_MATMUL_H
#define CDNA_KERNELS_CPU_MATMUL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { CDNA_CHUNK = 128, CDNA_SUM_LANES = 16, CDNA_SCALE_COLUMNS = 32, CDNA_DOT_ROWS_MAX = 4 };

// Orders of the columns of a chunk. Position p of the packed order has column cdna_packed_column(order, p).
enum cdna_order {
  CDNA_ORDER_NATURAL,       // p. Values that are not codes.
  CDNA_ORDER_EVEN_ODD,      // Codes of 1, 2, 3, 5, 6, 7 and 8 bits in f32: even and odd words of bytes unpacked.
  CDNA_ORDER_BYTES,         // The same codes in bf16: as bytes are unpacked to words.
  CDNA_ORDER_NIBBLES,       // Codes of 4 bits in f32: column 8 * (p % 16) + p / 16.
  CDNA_ORDER_WORD_NIBBLES,  // Codes of 4 bits in bf16: column 4 * (p % 32) + p / 32.
  CDNA_ORDER_BYTE_NIBBLES   // Codes of 4 bits in int8: column 2 * (p % 64) + p / 64. (Other codes in int8: natural.)
};

// Requires: p < CDNA_CHUNK.
static inline uint32_t cdna_packed_column(enum cdna_order order, uint32_t p) {
  switch (order) {
    case CDNA_ORDER_EVEN_ODD: {  // Of each 64, lane 4 q + i of vector v has column 16 q + 8 (v / 2) + 2 i + v % 2.
      const uint32_t v = p % 64 / 16;
      return p / 64 * 64 + p % 16 / 4 * 16 + v / 2 * 8 + p % 4 * 2 + v % 2;
    }
    case CDNA_ORDER_BYTES: {  // Of each 64: first the lower half of each 16, then the upper.
      const uint32_t q = p % 64;
      return p / 64 * 64 + q % 32 / 8 * 16 + q / 32 * 8 + q % 8;
    }
    case CDNA_ORDER_NIBBLES:
      return 8 * (p % 16) + p / 16;
    case CDNA_ORDER_WORD_NIBBLES:
      return 4 * (p % 32) + p / 32;
    case CDNA_ORDER_BYTE_NIBBLES:
      return 2 * (p % 64) + p / 64;
    default:
      return p;
  }
}

// A table of 2^bits entries in the forms that look-ups need. All arrays repeat the entries up to 256, so that bits
// above a code do not matter. Filled by libcdna/decode/lookup.cpp.
struct cdna_lookup {
  uint32_t bits;     // 1..8
  uint32_t is_half;  // Every entry is a binary16 number, so half_planes may be used.
  // What products in f32 count entries in: 65536 if every entry is a normal binary16 number (no zero) and bits is not
  // 4: entry / 65536 is a few bits away from a binary16. Else 1.
  float entry_unit;
  float values[256];
  uint8_t planes[4][256];        // Bytes of the f32, the least significant first.
  uint8_t half_planes[2][256];   // Of the binary16.
  uint8_t bf16_planes[2][256];   // Of the bf16 nearest to the entry.
  uint8_t fixed_planes[2][256];  // Of round(entry / fixed_step) + 32768; fixed_step = largest magnitude / 32767.
  float fixed_step;
  // 256 normal binary16 numbers are on 16 lines: entry 16 h + l is base h + l * step h, in f32, rounded to 11 bits.
  // Bases and steps are normal binary16 numbers, or the step is 0.
  uint32_t is_pwl;
  uint8_t pwl_planes[4][16];  // Two bytes of the bases, two of the steps, the least significant first.
};

// One row of codes, or a piece of it that begins at a multiple of CDNA_CHUNK columns.
struct cdna_code_row {
  const uint8_t* codes;  // Bit-packed (spec/format.md, 8.2): ceil(count * bits / 8) bytes.
  size_t count;          // Columns.
  const float* scales;   // One per 32 columns, readable up to a whole chunk; null: none.
};

// Products in f32. w is the entry / entry_unit, which is exact; to multiply sums and y by entry_unit is the caller's.
// (Of products below 2^-110 bits may be lost so, on all instruction sets the same ones.)
struct cdna_f32_kernels {
  // sums[i][lane] of m <= CDNA_DOT_ROWS_MAX rows of packed x, each x_stride floats after the last: of each 64 columns
  // (4-bit codes: 128) in packed order, lane l of vector v holding position 16 v + l,
  //   without scales  t = x_0 w_0; t = fma(x_1, w_1, t), ... over all vectors of the 64 (128); sum = sum + t
  //   with scales     the same t; sum = fma(t, scale of the lane's columns, sum)
  void (*dot_codes)(const struct cdna_lookup* table, const struct cdna_code_row* row, const float* x, size_t x_stride,
                    size_t m, float (*sums)[CDNA_SUM_LANES]);
  // The same for `count` values in natural order, without scales, 64 at a time; past them w is 0.
  void (*dot_values)(const float* w, size_t count, const float* x, size_t x_stride, size_t m,
                     float (*sums)[CDNA_SUM_LANES]);
  // y[i][p] = fma(factors[i][r], w_r[p], y[i][p]) for `rows` rows r = 0, 1, ... in turn, i < m <= CDNA_DOT_ROWS_MAX, p
  // in packed order up to a whole chunk. With scales w is entry / entry_unit * scale, rounded. factors[i][r] is
  // factors[i * rows + r]. Row r's codes are codes + r * row_bytes, its scales scales + r * scale_stride.
  void (*add_codes)(const struct cdna_lookup* table, const struct cdna_code_row* first, size_t rows, size_t row_bytes,
                    size_t scale_stride, const float* factors, size_t m, float* y, size_t y_stride);
  // out[p] = the entry itself, with scales the entry * scale, rounded: in packed order, up to a whole chunk.
  void (*decode)(const struct cdna_lookup* table, const struct cdna_code_row* row, float* out);
  // out[i] = values[numbers[i / repeat]] for i < count * repeat, in natural order: scales of groups of 32 * repeat.
  void (*look_up)(const struct cdna_lookup* table, const uint8_t* numbers, size_t count, size_t repeat, float* out);
  // c[i][j] = fma(a[i][t], b[t][j], c[i][j]) for t = 0, 1, ... depth - 1 in turn. lanes is a multiple of 16; strides
  // are in floats; b and c are aligned to 64 bytes, ldb and ldc multiples of 16.
  void (*multiply)(const float* a, size_t lda, size_t rows, const float* b, size_t ldb, size_t lanes, size_t depth,
                   float* c, size_t ldc);
};

const struct cdna_f32_kernels* cdna_f32_kernels_baseline(void);
#if defined(__x86_64__)
const struct cdna_f32_kernels* cdna_f32_kernels_avx2(void);
const struct cdna_f32_kernels* cdna_f32_kernels_avx512(void);
#endif

// Products of bf16 numbers, summed up in f32. Each product is exact; sums may be rounded in any order, and subnormal
// numbers may count as 0.
struct cdna_bf16_kernels {
  // sums[i][lane] += x w over a row; which lane has which columns is the kernel's own, but columns of different groups
  // of 32 meet only after their sums were multiplied by their scales in f32.
  void (*dot_codes)(const struct cdna_lookup* table, const struct cdna_code_row* row, const uint16_t* x,
                    size_t x_stride, size_t m, float (*sums)[CDNA_SUM_LANES]);
  // The same for `count` values in natural order.
  void (*dot_values)(const uint16_t* w, size_t count, const uint16_t* x, size_t x_stride, size_t m,
                     float (*sums)[CDNA_SUM_LANES]);
  // out[p] = the entry's bf16; with scales that of entry * scale (f32, rounded twice). In packed order (BYTES, or
  // WORD_NIBBLES), up to a whole chunk.
  void (*decode)(const struct cdna_lookup* table, const struct cdna_code_row* row, uint16_t* out);
  // out[i] = the bf16 nearest to in[i], ties to even; a NaN stays one.
  void (*round)(const float* in, size_t count, uint16_t* out);
  // c[i][j] += sum over t < depth of a[i][t] * b[t / 2][j][t % 2]. depth is a multiple of 32, lanes of 16; strides: lda
  // in elements of a, ldb in pairs (b[t / 2] is at b + 2 * (t / 2) * ldb), ldc in floats. b and c aligned to 64 bytes,
  // ldb and ldc multiples of 16.
  void (*multiply)(const uint16_t* a, size_t lda, size_t rows, const uint16_t* b, size_t ldb, size_t lanes,
                   size_t depth, float* c, size_t ldc);
};

const struct cdna_bf16_kernels* cdna_bf16_kernels_baseline(void);
#if defined(__x86_64__)
const struct cdna_bf16_kernels* cdna_bf16_kernels_avx2(void);
const struct cdna_bf16_kernels* cdna_bf16_kernels_avx512(void);  // Without AVX-512 BF16.
const struct cdna_bf16_kernels* cdna_bf16_kernels_avx512_bf16(void);
// multiply() in tiles. Requires that the process has leave to use them (libcdna/cpu.cpp asks for it).
const struct cdna_bf16_kernels* cdna_bf16_kernels_amx(void);
#endif

// Products of int8 numbers with the codebook in 16 bits: integers, exact within 64 columns, summed up in f32.
struct cdna_int8_kernels {
  // sums[i][lane] += scale of the columns * x_scales[i][64 columns] * (integer sum of x * fixed), of m <=
  // CDNA_DOT_ROWS_MAX rows; scale is 1 without scales. x in packed order (natural, or BYTE_NIBBLES); x_scales one per
  // 64 columns, readable up to a whole chunk. (fixed_step is the caller's to multiply by.)
  void (*dot_codes)(const struct cdna_lookup* table, const struct cdna_code_row* row, const int8_t* x, size_t x_stride,
                    const float* x_scales, size_t x_scale_stride, size_t m, float (*sums)[CDNA_SUM_LANES]);
};

const struct cdna_int8_kernels* cdna_int8_kernels_baseline(void);
#if defined(__x86_64__)
const struct cdna_int8_kernels* cdna_int8_kernels_avx2(void);
const struct cdna_int8_kernels* cdna_int8_kernels_avx512(void);  // VNNI
#endif

#ifdef __cplusplus
}
#endif

#endif
