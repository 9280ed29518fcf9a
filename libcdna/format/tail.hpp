// Head and tail: the fixed frames at both ends of a file (spec/format.md, section 5). Written by writer.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "cdna/error.hpp"
#include "cdna/limits.hpp"
#include "libcdna/format/wire.hpp"

namespace cdna {

// What is known of a file before its footer is read.
struct FileEnds {
  std::uint64_t file_bytes = 0;
  std::span<const std::byte> first;  // The first 8 bytes, fewer of a shorter file.
  std::span<const std::byte> last;   // The last 256 bytes, fewer of a shorter file.
};

// Checks T1..T14 in order.
Result<wire::Tail> parse_tail(const FileEnds& ends, const std::optional<Digest>& expected_root, const Limits& limits);

// Checks H1.
Result<void> check_head(std::span<const std::byte> head, const wire::Tail& tail);

wire::Head make_head(std::uint8_t align_log2);

// What a tail states besides constants and its root.
struct TailFields {
  std::uint64_t required_features = 0;
  std::uint64_t optional_features = 0;
  std::uint64_t footer_offset = 0;
  std::uint64_t footer_bytes = 0;
  std::uint32_t item_count = 0;
  Digest footer_digest{};
  std::uint8_t align_log2 = 0;
};

wire::Tail make_tail(const TailFields& fields);

}  // namespace cdna
