// Arrays that are read in pieces: the last one that was opened stays open.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/import.hpp"
#include "cdna/source.hpp"
#include "libcdna/import/numpy/npy.hpp"

namespace cdna {

// Describes an array.
ModelTensor array_tensor(std::string name, const NpyHeader& header);

// An array whose values can be read from any place: as it is in its source, or turned round in memory. Any thread.
class OpenArray {
 public:
  // Reads what is column-major whole. `header` is what was read of the source before. Errors: io (also: it has another
  // by now), no_memory.
  static Result<OpenArray> open(std::shared_ptr<const Source> source, const NpyHeader& header);
  // As read_npy().
  Result<void> read(std::uint64_t offset, std::span<std::byte> out) const;

 private:
  NpyHeader header_;
  std::shared_ptr<const Source> source_;
  std::vector<std::byte> values_;  // Of a column-major array.
};

// Any thread; they wait while one opens.
class LastArray {
 public:
  using Open = std::function<Result<OpenArray>(std::size_t tensor)>;
  // Reads of `tensor`, by `open` unless it is that of the call before. Errors: those of `open` and OpenArray::read().
  Result<void> read(std::size_t tensor, const Open& open, std::uint64_t offset, std::span<std::byte> out) const;

 private:
  mutable std::mutex mutex_;
  mutable std::optional<std::size_t> tensor_;
  mutable std::shared_ptr<const OpenArray> array_;
};

}  // namespace cdna
