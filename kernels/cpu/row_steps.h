// A row of codes in steps of 64 columns (128 of 4 bits: 64 bytes), with the end of the row in a padded copy.
#ifndef CDNA_KERNELS_CPU_ROW_STEPS_H
#define CDNA_KERNELS_CPU_ROW_STEPS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/inline.h"
#include "kernels/cpu/matmul.h"

namespace {

// How a row's codes are read: `step_bytes` hold a step's columns, the load of a step touches `load_bytes`.
struct StepShape {
  size_t columns;     // 64 or 128
  size_t step_bytes;  // At most 64.
  size_t load_bytes;  // step_bytes ... 64
};

CDNA_INLINE StepShape shape_of(uint32_t bits, size_t load_bytes) {
  return {bits == 4 ? size_t{128} : size_t{64}, bits == 4 ? size_t{64} : size_t{8} * bits, load_bytes};
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

// Calls body(codes, step) for steps 0, 1, ... steps - 1.
template <class Body>
CDNA_INLINE void for_steps(const cdna_code_row& row, uint32_t bits, StepShape shape, size_t steps, const Body& body) {
  const size_t bytes = (row.count * bits + 7) / 8;
  const size_t whole = row.count / shape.columns;
  const size_t readable = bytes < shape.load_bytes ? 0 : (bytes - shape.load_bytes) / shape.step_bytes + 1;
  const size_t direct = readable < whole ? readable : whole;
  // At most 64 bytes are left: those of a step that is not whole, or fewer than a load touches. A step that has some of
  // them begins before their end, another without any before 128.
  uint8_t rest[128 + 64] = {};
  const size_t left = bytes - direct * shape.step_bytes;
  __builtin_memcpy(rest, row.codes + direct * shape.step_bytes, left);
  const size_t last_bits = row.count * bits % 8;
  if (last_bits != 0) rest[left - 1] = static_cast<uint8_t>(rest[left - 1] & ((1U << last_bits) - 1));
  for (size_t step = 0; step < steps; ++step) {
    const uint8_t* codes =
        step < direct ? row.codes + step * shape.step_bytes : rest + (step - direct) * shape.step_bytes;
    __builtin_prefetch(codes + kPrefetchBytes);
    body(codes, step);
  }
}

}  // namespace

#endif
