// The content of a tensor from front to back, in parts of bounded size, wherever it is stored.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "cdna/import.hpp"
#include "cdna/reader.hpp"

namespace cdna::tools {

inline constexpr std::uint64_t kPartBytes = std::uint64_t{3} << 18;  // Whole elements of every dtype, 6-bit ones too.
inline constexpr std::uint64_t kRowBytesMax = std::uint64_t{256} << 20;  // A few bytes can claim a row of any length.

// The error of a tensor that has a row over kRowBytesMax to be decoded at once.
Error too_wide(const Tensor& tensor, std::uint64_t row_bytes);

class ByteStream {
 public:
  virtual ~ByteStream() = default;
  // The next bytes, whole elements; none at the end. Valid until the next call. Not to be called after an error.
  virtual Result<std::span<const std::byte>> next() = 0;
};

// Row-major elements of `dtype`.
struct TensorStream {
  std::unique_ptr<ByteStream> bytes;
  DType dtype = DType::none;
  bool exact = true;  // The elements are those of the source, as they are stored.
};

// Whatever these are made of must outlive them.
TensorStream stream_of(const Model& model, std::size_t tensor);
// A tensor of codes is decoded to F64, which holds every value that it can have. Errors: those of Tensor::blocks();
// limit (too wide).
Result<TensorStream> stream_of(const Tensor& tensor);

std::unique_ptr<ByteStream> stream_of_asset(const Model& model, std::size_t asset);
std::unique_ptr<ByteStream> stream_of(const Asset& asset);

}  // namespace cdna::tools
