// A tensor to be written, as its caller describes it.
#pragma once

#include <cstdint>

#include "bindings/c/cdna.h"
#include "cdna/preset.hpp"
#include "cdna/writer.hpp"

namespace cdna::c {

struct TakenTensor {
  TensorSpec spec;  // With the role that the name gives, and codec and filter of `preset`.
  Preset preset;
  std::uint64_t size_bytes = 0;  // Of the row-major source.
  // The matrix view.
  std::uint64_t rows = 1;
  std::uint64_t cols = 1;
  std::uint64_t row_bytes = 0;
};

// Checks everything that the library requires before it is called. Errors: bad_argument, limit (2^60 elements or more);
// with the name.
Result<TakenTensor> take_tensor(const cdna_tensor_spec* given);

}  // namespace cdna::c
