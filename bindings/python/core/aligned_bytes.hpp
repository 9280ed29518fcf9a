// Private memory that a file is written into.
#pragma once

#include <cstddef>
#include <span>

#include "cdna/sink.hpp"

namespace cdna::python {

// Bytes that grow, from a page's beginning: planes are then as aligned as in a mapped file.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  AlignedBytes(const AlignedBytes&) = delete;
  AlignedBytes& operator=(const AlignedBytes&) = delete;
  ~AlignedBytes();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Throw std::bad_alloc.
  void append(std::span<const std::byte> bytes);
  void reserve(std::size_t capacity);

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

// Appends to `out`, which outlives it.
class AlignedSink final : public Sink {
 public:
  explicit AlignedSink(AlignedBytes& out) : out_(out) {}
  Result<void> write(std::span<const std::byte> bytes) override;
  Result<void> commit() override { return {}; }

 private:
  AlignedBytes& out_;
};

}  // namespace cdna::python
