// Reads the blocks of one plane: verified, decoded, one held at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cdna/error.hpp"
#include "libcdna/codec/codec.hpp"
#include "libcdna/file.hpp"

namespace cdna {

class PlaneReader {
 public:
  // For blocks up to `end`: none from there on is asked of the disk in advance. Buffers are as large as the plane's
  // largest block. Errors: those of File::touch.
  static Result<PlaneReader> create(const File& file, std::uint32_t item, std::uint32_t plane, std::uint64_t end);

  // The decoded bytes of a block, with padding bits checked (E4). Valid until the next fetch of another block.
  // Allocates nothing (brotli: see BlockDecoder). Errors: io, corrupt, malformed, unsupported (U7), no_memory.
  Result<std::span<const std::byte>> fetch(std::uint64_t block);

  // File::bring_back and File::release for a block of this plane.
  Result<void> bring_back(std::uint64_t block) const { return file_->bring_back(plane_, block); }
  void release(std::uint64_t block) const { file_->release(plane_, block); }

  const wire::IndexEntry& entry(std::uint64_t block) const { return plane_.entry(block); }

  // Whether the last block fetched lies in the mapping.
  bool in_place() const { return in_place_; }

 private:
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};
  PlaneReader(const File& file, const TouchedPlane& plane)
      : file_(&file), plane_(plane), matrix_(file.footer().item(plane.item).matrix()) {}
  Result<std::span<const std::byte>> decode(std::uint64_t block);
  Result<void> run_codec(const BlockCoding& coding, std::span<const std::byte> stored, std::span<std::byte> out);

  const File* file_;
  TouchedPlane plane_;
  MatrixView matrix_;
  std::uint64_t end_ = 0;  // Of the blocks that will be fetched, mostly in order.
  BlockDecoder decoder_;
  std::vector<std::byte> stored_;
  std::vector<std::byte> decoded_;
  std::uint64_t current_block_ = kNone;
  std::span<const std::byte> current_;
  bool in_place_ = false;
};

}  // namespace cdna
