// What `cdna bench matmul` compares with: reading, decoding and hashing the same tensor, and dense matrices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cdna/reader.hpp"
#include "cdna/workers.hpp"

namespace cdna::tools::bench {

// Part `index` of `count` about equal ones of [0, size), at multiples of `step` where it does not end.
struct Part {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};
Part part_of(std::uint64_t size, std::uint64_t step, std::size_t index, std::size_t count);

// Calls body(part) for the part of each worker. Throws what a body throws.
void for_parts(Workers& workers, std::uint64_t size, std::uint64_t step, const std::function<void(Part)>& body);

// The stored bytes of a tensor's first plane, where the file is mapped; else empty.
std::span<const std::byte> first_plane(const Reader& reader, const Tensor& tensor);

// Sums up the words of the bytes.
void read(Workers& workers, std::span<const std::byte> bytes);
// Tensor::read_rows() to f32, a few rows at a time, into a buffer of 256 KiB for each worker.
void decode(Workers& workers, const Tensor& tensor);
// Steps over all blocks: verifies those that were not touched yet, and decompresses those that are compressed.
void walk(Workers& workers, const Tensor& tensor);

// Row-major f32, decoded from a tensor's first rows.
class DenseMatrix {
 public:
  DenseMatrix(const Tensor& tensor, std::uint64_t rows, Workers& workers);

  const float* data() const { return values_.data(); }
  std::uint64_t rows() const { return rows_; }
  std::uint64_t cols() const { return cols_; }

 private:
  std::uint64_t rows_;
  std::uint64_t cols_;
  std::vector<float> values_;
};

// Decompresses the stored blocks of a tensor's first plane by zstd's and brotli's own functions, each worker with one
// buffer. Requires: mapped; blocks without a filter.
class CodecBlocks {
 public:
  CodecBlocks(const Reader& reader, const Tensor& tensor);
  void decompress(Workers& workers) const;
  std::uint64_t decoded_bytes() const { return decoded_bytes_; }

 private:
  struct Stored {
    std::span<const std::byte> bytes;
    std::uint32_t decoded_length = 0;
    Codec codec = Codec::raw;
  };
  static void decompress_one(const Stored& block, std::span<std::byte> out);

  std::vector<Stored> blocks_;
  std::uint64_t decoded_bytes_ = 0;
};

}  // namespace cdna::tools::bench
