// Block codecs: raw, zstd, brotli, and zstd under byte planes (spec/format.md, section 12).
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

// How a block is stored.
struct BlockCoding {
  BlockCoding(Codec plain) : codec(plain) {}  // Implicit: most blocks have a codec and nothing else.
  // Filter 1, of elements of 2, 4 or 8 bytes.
  static BlockCoding byte_planes(std::size_t element_bytes) {
    BlockCoding coding(Codec::zstd);
    coding.filter = Filter::byte_planes;
    coding.element_bytes = element_bytes;
    return coding;
  }

  Codec codec;
  Filter filter = Filter::none;
  std::size_t element_bytes = 1;  // Matters to byte planes only.
};

// Decodes blocks, keeping its contexts from one to the next. Not shared between threads.
class BlockDecoder {
 public:
  BlockDecoder();
  ~BlockDecoder();
  BlockDecoder(BlockDecoder&&) noexcept;
  BlockDecoder& operator=(BlockDecoder&&) noexcept;

  // Fills `out` (decoded_length bytes) from the verified bytes `stored`. Checks C1..C4. Requires: lengths by X7.
  // Errors: malformed, no_memory. Cost: no allocation for zstd; brotli reuses what earlier blocks needed.
  Result<void> decode(const BlockCoding& coding, std::span<const std::byte> stored, std::span<std::byte> out);

 private:
  Result<void> decode_byte_planes(std::size_t element_bytes, std::span<const std::byte> stored,
                                  std::span<std::byte> out);

  struct Contexts;
  std::unique_ptr<Contexts> contexts_;
};

// Encodes blocks, keeping its contexts from one to the next. Not shared between threads.
class BlockEncoder {
 public:
  // Compresses `decoded` into `out` and returns true; returns false, leaving `out` unspecified, where raw is to be
  // stored: for Codec::raw and when the gain is below 3 % (spec/format.md, section 17). Requires: of byte planes, whole
  // elements. Throws std::bad_alloc: too little memory must not change what is written.
  bool compress(const BlockCoding& coding, std::span<const std::byte> decoded, std::vector<std::byte>& out);

 private:
  bool encode(const BlockCoding& coding, std::span<const std::byte> decoded, std::vector<std::byte>& out);
  bool encode_byte_planes(std::size_t element_bytes, std::span<const std::byte> decoded, std::vector<std::byte>& out);

  ZstdEncoder zstd_;
  ZstdEncoder exponents_{ZstdEncoder::Content::exponents};
  std::vector<std::byte> last_plane_;
};

}  // namespace cdna
