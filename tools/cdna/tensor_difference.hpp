// How two tensors differ, element by element.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>

#include "tools/tensor_stream.hpp"

namespace cdna::tools {

// Of B against A. Elements differ when their bits do, so -0 differs from 0. A NaN differs from other NaNs, but for
// quiet against signalling ones where the two are not of one dtype, or one is decoded from codes.
struct TensorDifference {
  std::uint64_t elements = 0;
  std::uint64_t differing = 0;
  std::optional<std::uint64_t> first;  // Position, row-major.

  bool numeric = false;         // Both are floats: what follows means something.
  double max_abs = 0;           // Of a - b; +Inf where one of them is not finite and they differ.
  double sum_squares = 0;       // Of a, over the pairs of finite values.
  double sum_squared_diff = 0;  // Of a - b, likewise.
  // 10 log10 of their ratio, and the root of its inverse: both finite, or nothing.
  std::optional<double> snr_db() const;
  std::optional<double> relative_error() const;
};

// Told of the bytes of a stream as they are read.
using ByteObserver = std::function<void(std::span<const std::byte>)>;

// Reads `elements` from both streams. Requires: they have as many; equal dtypes unless both are floats.
// Errors: those of the streams; cancelled when `stop` is set.
Result<TensorDifference> compare_tensors(std::uint64_t elements, TensorStream a, TensorStream b,
                                         const std::atomic<bool>& stop, const ByteObserver& seen_a,
                                         const ByteObserver& seen_b);

}  // namespace cdna::tools
