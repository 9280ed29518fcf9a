// A row of codes in steps of 64 columns (128 of 4 bits: 64 bytes), with the end of the row in a padded copy.
#ifndef CDNA_KERNELS_CPU_ROW_STEPS_H
#define CDNA_KERNELS_CPU_ROW_STEPS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/inline.h"
#include "kernels/cpu/matmul.h"

namespace {

// How a row's codes are read: a step of `columns` has step_bytes, of which a load touches load_bytes (at most 64).
struct StepShape {
  size_t columns;
  size_t step_bytes;
  size_t load_bytes;
};

template <bool kNibbles>
constexpr size_t kStepColumns = kNibbles ? 128 : 64;

template <bool kNibbles>
CDNA_INLINE StepShape shape_of(uint32_t bits, size_t load_bytes) {
  return {kStepColumns<kNibbles>, kNibbles ? size_t{64} : size_t{8} * bits, load_bytes};
}

// The steps that have one of a row's columns; all steps up to a whole chunk.
CDNA_INLINE size_t steps_of(const cdna_code_row& row, StepShape shape) {
  return (row.count + shape.columns - 1) / shape.columns;
}

CDNA_INLINE size_t steps_of_chunks(const cdna_code_row& row, StepShape shape) {
  return (row.count + CDNA_CHUNK - 1) / CDNA_CHUNK * (CDNA_CHUNK / shape.columns);
}

// Far enough ahead to hide the memory's latency: 2 to 4 KiB were equally fast where it was measured.
constexpr size_t kPrefetchBytes = 2048;

// The whole steps whose loads stay within the row.
CDNA_INLINE size_t direct_steps_of(const cdna_code_row& row, size_t bytes, StepShape shape) {
  size_t steps = row.count / shape.columns;
  while (steps > 0 && (steps - 1) * shape.step_bytes + shape.load_bytes > bytes) --steps;
  return steps;
}

// What the other steps read: at most 64 bytes, those of a step that is not whole, or fewer than a load touches. A step
// that has some of them begins before their end, another without any before 128.
struct RowEnd {
  uint8_t bytes[128 + 64];
};

CDNA_INLINE void copy_end(const cdna_code_row& row, uint32_t bits, size_t begin, size_t bytes, RowEnd& end) {
  __builtin_memset(&end, 0, sizeof end);
  if (bytes == begin) return;
  __builtin_memcpy(end.bytes, row.codes + begin, bytes - begin);
  const size_t last_bits = row.count * bits % 8;
  if (last_bits == 0) return;
  uint8_t& last = end.bytes[bytes - begin - 1];
  last = static_cast<uint8_t>(last & ((1U << last_bits) - 1));
}

// Calls body(codes, step) for steps 0, 1, ... steps - 1, from one place: what the body keeps in registers stays there.
template <class Body>
CDNA_INLINE void for_steps(const cdna_code_row& row, uint32_t bits, StepShape shape, size_t steps, const Body& body) {
  const size_t bytes = (row.count * bits + 7) / 8;
  const size_t direct = direct_steps_of(row, bytes, shape);
  RowEnd end;
  if (direct < steps) copy_end(row, bits, direct * shape.step_bytes, bytes, end);
  for (size_t step = 0; step < steps; ++step) {
    const uint8_t* codes =
        step < direct ? row.codes + step * shape.step_bytes : end.bytes + (step - direct) * shape.step_bytes;
    __builtin_prefetch(codes + kPrefetchBytes);
    body(codes, step);
  }
}

}  // namespace

#endif
