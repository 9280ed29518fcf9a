// The first pass over a tensor: what its codebook and its bound of outliers are.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "cdna/dtype.hpp"
#include "cdna/preset.hpp"
#include "cdna/writer.hpp"
#include "libcdna/encode/codebook_fit.hpp"
#include "libcdna/format/geometry.hpp"
#include "libcdna/thread_pool.hpp"

namespace cdna {

// A tensor whose rows can be read in any order, from any thread.
struct TensorRows {
  DType dtype = DType::none;
  MatrixView matrix;
  std::uint32_t rows_per_block = 1;
  std::span<const std::byte> memory;        // All of it, or
  const ByteReader* data = nullptr;         // where it comes from.
  const std::atomic<bool>* stop = nullptr;  // May be null.

  std::uint64_t block_count() const { return (matrix.rows + rows_per_block - 1) / rows_per_block; }
  std::uint64_t row_begin(std::uint64_t block) const { return block * rows_per_block; }
  std::uint64_t row_count(std::uint64_t block) const;
  std::uint64_t row_bytes() const { return matrix.cols * bits_of(dtype) / 8; }
  // Bytes of the row-major tensor: in memory, or read into `buffer`, which grows as needed.
  Result<std::span<const std::byte>> bytes(std::uint64_t offset, std::uint64_t size,
                                           std::vector<std::byte>& buffer) const;
  Result<void> check_stop() const;
  // NaN or infinity at an element of the matrix.
  Error nonfinite_at(std::uint64_t position) const;
};

struct FittedTensor {
  FittedCodebook fitted;
  float outlier_bound = 0;  // On |w| / rms of the row; +Inf: none.
};

// With row scales only, or with outliers, every value is counted. With group scales the codebook comes from a sample of
// about 2^19 values, on which codebook and scales are improved in turn; the sample and so the result depend on the
// tensor alone. Memory: 1 MiB per thread, and 10 MiB for groups. Errors: those of the data; bad_argument for a value
// that is not finite, where the options refuse it (where only a sample is read, none is refused); cancelled.
Result<FittedTensor> fit_tensor(const TensorRows& rows, const CodebookOptions& options, ThreadPool& pool);

}  // namespace cdna
