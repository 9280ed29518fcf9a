// The loops of the codebook encoder: scale, count, find the nearest entry, search scales, decode, sum up errors.
//
// All work on runs of f32 of any length and alignment, and give the same bits on every instruction set: elementwise
// operations are IEEE 754 single operations without fma, sums go to a fixed number of partial sums in a fixed order.
// Values are finite unless a function says otherwise. Nothing is allocated, nothing can fail; what is written
// overlaps nothing, but divide() and multiply() may write where they read.
// A table may be called only where the CPU and the operating system have its instruction set.
#ifndef CDNA_KERNELS_CPU_CODEBOOK_H
#define CDNA_KERNELS_CPU_CODEBOOK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { CDNA_CODEBOOK_CELLS_MAX = 4096, CDNA_SCALE_CANDIDATES = 9 };

// Bins of magnitudes: the bits of an f32 without the lower 12 of its fraction, from those of 2^-12 on, 24 octaves.
enum { CDNA_HISTOGRAM_SHIFT = 12, CDNA_HISTOGRAM_FIRST = (127 - 12) * 2048, CDNA_HISTOGRAM_MAGNITUDES = 24 * 2048 };

// A codebook of 2^bits entries in the forms that look-ups need. Filled by libcdna/encode/codebook.cpp.
struct cdna_codebook {
  uint32_t bits;         // 1..8
  float values[256];     // Ascending; [2^bits].
  uint16_t halves[256];  // The same as binary16.
  // Between entries i and i + 1; [2^bits - 1], then +Inf. The nearest entry of v is the number of midpoints below v.
  float midpoints[256];
  // The midpoints as a binary search tree, level after level: level l has 2^l, from tree[2^l]; tree[0] is not used.
  float tree[256];
  // Cells of equal width, each with at most one midpoint in it; cell_count = 0 where that would need too many.
  // Cell of v: (v - cells_begin) * cells_per_unit, truncated, within 0..cell_count - 1.
  uint32_t cell_count;
  float cells_begin;
  float cells_per_unit;
  float cell_midpoint[CDNA_CODEBOOK_CELLS_MAX];      // +Inf where there is none.
  int32_t cell_first_code[CDNA_CODEBOOK_CELLS_MAX];  // Midpoints in lower cells.
};

// Group scales to choose from: [256]; 0 stands for a group of zeros.
struct cdna_scale_table {
  float values[256];
  float inverses[256];  // 1 / value, rounded once; 0 for 0.
  uint32_t first;       // Entries first .. last have magnitudes that ascend by equal factors.
  uint32_t last;
  uint32_t negative;  // Added to the number of a scale gives the negative one; 0: there are none.
};

// Sums over elements, element i of a block in partial sum i mod 8 (spec/format.md, section 17).
struct cdna_error_sums {
  double pivot;  // Near the mean, so that the central moments can be had from powers of d = w - pivot.
  double d[8];
  double d2[8];
  double d3[8];
  double d4[8];
  double w2[8];
  double error2[8];
  double error_max[8];
};

struct cdna_codebook_kernels {
  // out[i] = the value of a bf16 or binary16, at any address.
  void (*widen_bf16)(const void* bits, size_t count, float* out);
  void (*widen_f16)(const void* bits, size_t count, float* out);
  // The largest magnitude, as bits of f32; from 0x7F800000 on something is not finite. Any values.
  uint32_t (*max_magnitude)(const float* x, size_t count);
  // Of each group of `group` values (the last may be short) the one of largest magnitude, of two the negative one.
  void (*find_largest)(const float* x, size_t count, size_t group, float* largest);
  // lanes[i % 8] += x[i]^2, in f64. lanes go on from call to call if count is a multiple of 8.
  void (*add_squares)(const float* x, size_t count, double* lanes);
  // out[i] = x[i] / divisor. divisor > 0.
  void (*divide)(const float* x, size_t count, float divisor, float* out);
  // ++counts[b] for every v: bins by sign, exponent and the upper 11 bits of the fraction, ascending with v,
  // [2 * CDNA_HISTOGRAM_MAGNITUDES]: magnitudes from 2^-12 to 2^12, what is beyond in the outermost bins.
  void (*count_magnitudes)(const float* v, size_t count, uint32_t* counts);
  // How many |v| are >= bound, and their places, ascending, in places[count]. Any values; a NaN counts.
  size_t (*find_large)(const float* v, size_t count, float bound, uint32_t* places);
  // codes[i] = number of the entry nearest to v[i], the lower one of two. Any values but NaN.
  void (*nearest)(const struct cdna_codebook* codebook, const float* v, size_t count, uint8_t* codes);
  // For each group of `group` values (a multiple of 32; the last may be short) the best of the scales start - 4 ..
  // start + 4 within the table: that of least Σ (u - value(nearest(u * inverse)) * scale)^2 in f32, 16 partial sums;
  // the lower number of equals. starts[g] is the number of a scale, or of a negative one; 0 gives 0.
  void (*search_scales)(const struct cdna_codebook* codebook, const struct cdna_scale_table* table, const float* u,
                        size_t count, size_t group, const uint8_t* starts, uint8_t* numbers);
  // out[i] = u[i] * factor
  void (*multiply)(const float* u, size_t count, float factor, float* out);
  // out[i] = values[codes[i]] * scale
  void (*decode)(const struct cdna_codebook* codebook, const uint8_t* codes, size_t count, float scale, float* out);
  // Adds the powers of x, x - pivot and x - decoded, element i to partial sum (first + i) % 8.
  void (*add_errors)(const float* x, const float* decoded, size_t count, uint64_t first, struct cdna_error_sums* sums);
};

const struct cdna_codebook_kernels* cdna_codebook_kernels_baseline(void);
#if defined(__x86_64__)
const struct cdna_codebook_kernels* cdna_codebook_kernels_avx2(void);
const struct cdna_codebook_kernels* cdna_codebook_kernels_avx512(void);
#endif

#ifdef __cplusplus
}
#endif

#endif
