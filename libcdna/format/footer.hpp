// The footer: every item and plane of a file, checked (spec/format.md, sections 6 to 8, 11). Written by
// footer_builder.cpp.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "cdna/error.hpp"
#include "libcdna/format/flat_vectors.hpp"
#include "libcdna/format/geometry.hpp"
#include "libcdna/format/wire.hpp"

namespace cdna {

extern const FlatLayout kFooterLayout;

// One item with its slices of the pools.
struct ItemView {
  const wire::Item* item = nullptr;
  std::span<const std::uint64_t> dims;
  std::span<const wire::Plane> planes;
  std::string_view name;
  std::string_view type;

  MatrixView matrix() const { return matrix_view(dims, item->row_dims()); }
};

// A checked footer. Spans point into `bytes`, which is private memory.
class Footer {
 public:
  Footer() = default;
  Footer(Footer&&) = default;  // Not copied: the spans point into the bytes.
  Footer& operator=(Footer&&) = default;
  // Checks F1..F6, I1..I15, P1..P9, E1, E2, E7, N1..N5. `bytes` is footer_length bytes from footer_offset.
  static Result<Footer> parse(std::vector<std::byte> bytes, const wire::Tail& tail);

  std::uint32_t item_count() const { return static_cast<std::uint32_t>(items_.size()); }
  ItemView item(std::uint32_t number) const;
  std::span<const wire::Item> items() const { return items_; }
  // Item numbers by (class, name): tensors and aliases first.
  std::span<const std::uint32_t> order() const { return order_; }
  // How many of order() are tensors and aliases.
  std::uint32_t named_tensor_count() const { return named_tensor_count_; }
  // The item of that class and name, or item_count(). Cost: a binary search.
  std::uint32_t find(bool tensor_class, std::string_view name) const;
  std::uint64_t offset() const { return offset_; }
  std::uint64_t size_bytes() const { return bytes_.size(); }

 private:
  Result<void> parse_vectors(const wire::Tail& tail);
  Result<void> check_items(const wire::Tail& tail);
  Result<void> check_names();
  Result<void> check_order();
  std::uint64_t offset_of(const void* field) const;

  std::vector<std::byte> bytes_;
  std::uint64_t offset_ = 0;
  std::span<const wire::Item> items_;
  std::span<const wire::Plane> planes_;
  std::span<const std::uint64_t> dims_;
  std::span<const std::uint32_t> order_;
  std::string_view text_;
  std::uint32_t named_tensor_count_ = 0;
};

// Tensors and aliases are one name space (class 0), everything else another (class 1).
inline bool is_tensor_class(const wire::Item& item) { return item.kind() == kTensor || item.kind() == kAlias; }

}  // namespace cdna
