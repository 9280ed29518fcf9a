// What the planes pwl, affine and statistics state of a codebook tensor, compared with the tensor
// (spec/format.md, 13.3).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "libcdna/code_histogram.hpp"
#include "libcdna/file.hpp"
#include "libcdna/format/geometry.hpp"

namespace cdna {

class CodebookStatements {
 public:
  // Requires: a supported codebook tensor; the view's file outlives this.
  explicit CodebookStatements(const ItemView& view);

  // Takes note of a decoded block of a plane without bit 15; of outliers, of their values. Counts nothing where nothing
  // is stated.
  void add(const wire::Plane& plane, std::uint64_t block, std::span<const std::byte> values);

  // Checks D3 and D4 of each plane that states something, planes in order. Requires: all blocks have been added.
  // Errors: malformed, with item and plane; those of PlaneReader.
  Result<void> check(const File& file, std::uint32_t item) const;

 private:
  Result<void> check_codebook(const wire::Plane& plane, std::span<const std::byte> entries) const;
  Result<void> check_statistics(std::span<const std::byte> entries) const;

  ItemView view_;
  bool codebook_stated_ = false;
  std::vector<std::byte> codebook_;     // As it is decoded, if anything is stated of it.
  std::optional<CodeHistogram> codes_;  // None without statistics.
  std::uint64_t outlier_count_ = 0;
};

}  // namespace cdna
