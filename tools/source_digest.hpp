// D of spec/format.md, section 4, over bytes that arrive in order: what a file records of the source of a tensor.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "cdna/digest.hpp"

namespace cdna::tools {

// Throws std::bad_alloc, as all of the tools do.
class SourceDigest {
 public:
  SourceDigest();
  ~SourceDigest();
  void update(std::span<const std::byte> bytes);
  Digest finish();  // Once, last.

 private:
  void add_piece(std::span<const std::byte> piece);
  struct Outer;
  std::unique_ptr<Outer> outer_;
  std::vector<std::byte> rest_;  // Less than a piece.
};

}  // namespace cdna::tools
