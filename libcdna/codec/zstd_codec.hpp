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
  enum class Content : bool {
    any,
    exponents,  // Bytes of few values in no order: the last of byte planes.
  };
  explicit ZstdEncoder(Content content = Content::any) : content_(content) {}

  // Appends the frame to `out`. False if zstd failed or its frame is not one that C1 allows. Throws std::bad_alloc.
  bool encode(std::span<const std::byte> decoded, std::vector<std::byte>& out);

 private:
  struct Free {
    void operator()(ZSTD_CCtx_s* context) const;
  };
  void create_context();

  Content content_;
  std::unique_ptr<ZSTD_CCtx_s, Free> context_;  // Made at the first block.
};

}  // namespace cdna
