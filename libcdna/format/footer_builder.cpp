// FooterBuilder: pools in item order, `order` by class and name.
#include "libcdna/format/footer_builder.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <span>
#include <tuple>

namespace cdna {

void FooterBuilder::add(const ItemView& view) {
  items_.push_back(*view.item);
  planes_.insert(planes_.end(), view.planes.begin(), view.planes.end());
  dims_.insert(dims_.end(), view.dims.begin(), view.dims.end());
  text_ += view.name;
  text_ += view.type;
}

std::string_view FooterBuilder::name_of(std::uint32_t number) const {
  return std::string_view(text_).substr(items_[number].text_offset(), items_[number].name_length());
}

std::vector<std::uint32_t> FooterBuilder::sorted_order() const {
  std::vector<std::uint32_t> order(items_.size());
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(), [this](std::uint32_t a, std::uint32_t b) {
    return std::tuple(!is_tensor_class(items_[a]), name_of(a)) < std::tuple(!is_tensor_class(items_[b]), name_of(b));
  });
  return order;
}

std::vector<std::byte> FooterBuilder::build() const {
  const std::vector<std::uint32_t> order = sorted_order();
  const std::array<std::span<const std::byte>, 5> contents{
      std::as_bytes(std::span(items_)), std::as_bytes(std::span(planes_)), std::as_bytes(std::span(dims_)),
      std::as_bytes(std::span(order)), bytes_of(std::string_view(text_))};
  return append_flat(kFooterLayout, contents);
}

}  // namespace cdna
