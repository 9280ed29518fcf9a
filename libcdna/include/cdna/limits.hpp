// What a caller lets a file cost.
#pragma once

#include <cstdint>

namespace cdna {

// Checked before anything is allocated; exceeding one is Code::limit. The format's own limits hold besides
// (spec/format.md, section 3).
struct Limits {
  std::uint64_t footer_bytes_max = std::uint64_t{256} << 20;  // At most 1 GiB by the format.
  std::uint64_t items_max = std::uint64_t{1} << 24;
  std::uint64_t tensor_decoded_bytes_max = std::uint64_t{1} << 41;  // Per plane: 64 bytes of index can claim 16 MiB.
};

}  // namespace cdna
