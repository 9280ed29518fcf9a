// What becomes of a tensor on the device: whether it can be there, which rows, which arrays, how large.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cdna/reader.hpp"
#include "kernels/cuda/linear.h"
#include "libcdna/decode/codebook.hpp"

namespace cdna::cuda {

// The arrays of a tensor. Elements are those of an exact one, which has no others.
enum Part : std::uint8_t {
  kTiles,
  kElements,
  kEntries,  // Of the codebook.
  kLines,
  kRowScales,
  kGroupScales,
  kScaleTable,
  kOutlierBegin,
  kOutlierPlaces,
  kOutlierValues,
  kOutlierDeltas,
  kPartCount
};

// Where a part lies: in the one allocation of a model.
struct PartPlace {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

// Rows [begin, end) of every tensor; or a share of those of matrices.
struct Slice {
  std::uint64_t row_begin = 0;
  std::uint64_t row_end = 0;  // 0: to the last.
  std::uint32_t shard_index = 0;
  std::uint32_t shard_count = 0;  // 0: none.
};

struct TensorPlan {
  Tensor tensor;
  std::uint64_t row_begin = 0;
  std::uint64_t row_end = 0;
  std::uint64_t cols = 0;
  std::uint64_t block_begin = 0;  // Of the first plane: those with the rows.
  std::uint64_t block_end = 0;
  std::array<PartPlace, kPartCount> parts;
  std::uint64_t device_bytes = 0;

  bool is_codebook = false;
  RowDecoder decoder;  // Of a codebook, as the file has it; so are the next three.
  cdna_cuda::ScaleType group_scale_type = cdna_cuda::ScaleType::none;
  std::uint32_t device_bits = 0;
  cdna_cuda::Curve curve = cdna_cuda::Curve::none;
  DType outlier_dtype = DType::none;   // none: no outliers.
  std::uint64_t outliers_max = 0;      // In the blocks with the rows.
  std::vector<std::uint16_t> entries;  // [2^device_bits] binary16
  std::vector<std::uint16_t> lines;

  std::uint64_t rows() const { return row_end - row_begin; }
  bool has_blocks() const { return block_begin != block_end; }
  std::uint64_t row_tiles() const { return cdna_cuda::tiles_of_rows(rows()); }
  std::uint64_t tiles() const { return row_tiles() * cdna_cuda::tiles_of_columns(cols); }

  // Looks at the index, the codebook and what is stated of it. Parts lie behind `offset`, each aligned to 256 bytes.
  // Errors: unsupported and bad_argument, with the tensor; limit; those of reading.
  static Result<TensorPlan> of(const Tensor& tensor, const Slice& slice, std::uint64_t offset);
};

}  // namespace cdna::cuda
