// Writes footers: the twin of footer.hpp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "libcdna/format/footer.hpp"

namespace cdna {

// Footer bytes from checked pools: the inverse of Footer::parse.
class FooterBuilder {
 public:
  // Adds the next item; its first_dim, first_plane and text_offset are those of next_*().
  void add(const ItemView& view);
  std::uint32_t item_count() const { return static_cast<std::uint32_t>(items_.size()); }
  std::uint32_t next_dim() const { return static_cast<std::uint32_t>(dims_.size()); }
  std::uint32_t next_plane() const { return static_cast<std::uint32_t>(planes_.size()); }
  std::uint64_t next_text() const { return text_.size(); }
  std::vector<std::byte> build() const;

 private:
  std::vector<std::uint32_t> sorted_order() const;
  std::string_view name_of(std::uint32_t number) const;

  std::vector<wire::Item> items_;
  std::vector<wire::Plane> planes_;
  std::vector<std::uint64_t> dims_;
  std::string text_;
};

}  // namespace cdna
