// Block codecs: raw, zstd, brotli (spec/format.md, section 12).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cdna/codec.hpp"
#include "cdna/error.hpp"
#include "libcdna/codec/zstd_codec.hpp"

namespace cdna {

// Decodes blocks, keeping its contexts from one to the next. Not shared between threads.
class BlockDecoder {
 public:
  BlockDecoder();
  ~BlockDecoder();
  BlockDecoder(BlockDecoder&&) noexcept;
  BlockDecoder& operator=(BlockDecoder&&) noexcept;

  // Fills `out` (decoded_length bytes) from the verified bytes `stored`. Checks C1..C4.
  // Errors: malformed, no_memory. Cost: no allocation for zstd; brotli reuses what earlier blocks needed.
  Result<void> decode(Codec codec, std::span<const std::byte> stored, std::span<std::byte> out);

 private:
  struct Contexts;
  std::unique_ptr<Contexts> contexts_;
};

// Encodes blocks, keeping its contexts from one to the next. Not shared between threads.
class BlockEncoder {
 public:
  // Compresses `decoded` into `out` and returns true; returns false, leaving `out` unspecified, where raw is to be
  // stored: for Codec::raw and when the gain is below 3 % (spec/format.md, section 17). Throws std::bad_alloc: too
  // little memory must not change what is written.
  bool compress(Codec codec, std::span<const std::byte> decoded, std::vector<std::byte>& out);

 private:
  ZstdEncoder zstd_;
};

}  // namespace cdna
