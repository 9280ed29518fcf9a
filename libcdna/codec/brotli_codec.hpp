// brotli blocks: one stream of RFC 7932 under the restrictions of rules C3 and C4.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "cdna/error.hpp"

namespace cdna {

// Memory for brotli decoders, kept from one block to the next: a decoder is made anew for each stream, with the same
// few allocations, so after the first blocks nothing more is asked of the system.
class BrotliHeap {
 public:
  BrotliHeap() = default;
  ~BrotliHeap();
  BrotliHeap(const BrotliHeap&) = delete;
  BrotliHeap& operator=(const BrotliHeap&) = delete;
  // nullptr when there is no memory, as brotli expects.
  void* allocate(std::size_t size) noexcept;
  void release(void* memory) noexcept;

 private:
  std::vector<void*> free_;
};

Result<void> decode_brotli(BrotliHeap& heap, std::span<const std::byte> stored, std::span<std::byte> out);

// False if brotli failed. Throws std::bad_alloc.
bool encode_brotli(std::span<const std::byte> decoded, std::vector<std::byte>& out);

}  // namespace cdna
