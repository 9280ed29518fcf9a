// zstd blocks: one frame of RFC 8878 under the restrictions of rules C1 and C2.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "cdna/error.hpp"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace cdna {

class ZstdDecoder {
 public:
  Result<void> decode(std::span<const std::byte> stored, std::span<std::byte> out);

 private:
  struct Free {
    void operator()(ZSTD_DCtx_s* context) const;
  };
  std::unique_ptr<ZSTD_DCtx_s, Free> context_;  // Made at the first block.
};

class ZstdEncoder {
 public:
  // False if zstd failed or gained nothing. Throws std::bad_alloc.
  bool encode(std::span<const std::byte> decoded, std::vector<std::byte>& out);

 private:
  struct Free {
    void operator()(ZSTD_CCtx_s* context) const;
  };
  std::unique_ptr<ZSTD_CCtx_s, Free> context_;  // Made at the first block.
};

}  // namespace cdna
