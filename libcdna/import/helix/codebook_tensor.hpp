// A matrix as helix-substrate stores it, in memory: codebook, indices, sidecar, low-rank part, channel scales.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cdna/dtype.hpp"
#include "cdna/error.hpp"
#include "cdna/import.hpp"

namespace cdna {

// Outliers: values that replace what the codes give.
struct HelixSidecar {
  std::vector<std::uint64_t> positions;  // Row-major in the matrix, ascending.
  std::vector<std::byte> values;         // [positions], in dtype.
  DType dtype = DType::none;             // F16 or F32.

  std::size_t infinite_count() const;  // Of values that are not finite.
};

// Checks what a sidecar says: `positions` are I64, `values` as many of `dtype`. Errors: malformed (counts; a position
// that is out of range, twice or out of order, by its number), unsupported (dtype).
Result<HelixSidecar> make_sidecar(std::span<const std::byte> positions, std::span<const std::byte> values, DType dtype,
                                  std::uint64_t elements);

struct CodebookTensor {
  std::uint64_t rows = 0;
  std::uint64_t cols = 0;
  std::uint32_t vector = 1;            // Elements of a codebook entry: 1, 2 or 4; divides cols.
  std::vector<float> codebook;         // [k, vector]
  std::vector<std::uint8_t> indices8;  // [rows, cols / vector], one of the two.
  std::vector<std::uint16_t> indices16;
  HelixSidecar sidecar;
  std::vector<float> svd_u;  // [rows, r], [r], [r, cols]; empty: none.
  std::vector<float> svd_s;
  std::vector<float> svd_vt;
  std::vector<float> channel_scales;  // [cols], or empty: stored weights are those times the scales.
};

// Sorts, packs and checks values. Requires: sizes that fit each other. Errors: malformed (an index that is not below k,
// with row and column; what is not finite).
Result<HeldPlanes> planes_of(CodebookTensor tensor);

// Elements as they lie in a file, little-endian. Requires: whole elements.
std::vector<float> floats_of(std::span<const std::byte> bytes);
std::vector<std::uint16_t> u16_of(std::span<const std::byte> bytes);
// Pairs of 12-bit indices in three bytes: a & 255, a >> 8 | (b & 15) << 4, b >> 4. Requires: a multiple of three.
std::vector<std::uint16_t> unpack_12bit(std::span<const std::byte> bytes);

// "[300, 200]".
std::string shape_text(std::span<const std::uint64_t> shape);

}  // namespace cdna
