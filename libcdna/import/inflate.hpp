// Deflate streams in a source, decompressed by zlib as far as is asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/source.hpp"

namespace cdna {

// What a byte of deflate can become at most: a match of 258 bytes takes 2 bits or more (RFC 1951).
inline constexpr std::uint64_t kInflateRatioMax = 1032;

class Inflater {
 public:
  enum class Format : std::uint8_t { raw, zlib };
  // The stream is the `stored_bytes` from `begin`; `source` outlives this. Requires: they lie within the source.
  Inflater(const Source& source, std::uint64_t begin, std::uint64_t stored_bytes, Format format);
  ~Inflater();

  // Fills `out` and returns its size, or less where the stream ends; it must end with its last byte. Errors: io,
  // malformed (offset is in the source), no_memory.
  Result<std::size_t> read(std::span<std::byte> out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The rest of a stream of `size_min` to `size_max` bytes. Memory: twice what the stream really has. Errors: as read(),
// malformed (more or fewer bytes).
Result<std::vector<std::byte>> inflate(Inflater& inflater, std::uint64_t size_min, std::uint64_t size_max);

}  // namespace cdna
