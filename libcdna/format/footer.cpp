// Footer::parse and look-up by name.
#include "libcdna/format/footer.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "libcdna/format/names.hpp"
#include "libcdna/format/packet_walk.hpp"
#include "libcdna/hash/sha256.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::array<std::uint32_t, 5> kFooterElementBytes{sizeof(wire::Item), sizeof(wire::Plane), 8, 4, 1};

template <class T>
std::span<const T> elements(std::span<const std::byte> bytes, const FlatVector& vector) {
  return {reinterpret_cast<const T*>(bytes.data() + vector.offset), vector.count};
}

}  // namespace

const FlatLayout kFooterLayout{"CDN3", kFooterElementBytes};

Result<Footer> Footer::parse(std::vector<std::byte> bytes, const wire::Tail& tail) {
  Footer footer;
  footer.bytes_ = std::move(bytes);
  footer.offset_ = tail.footer_offset();
  CDNA_CHECK(sha256(footer.bytes_) == digest_in(tail.footer_digest()), Code::corrupt, "F1",
             "the footer does not match its digest (cdna-fsck --rebuild may recover it)", footer.offset_);
  CDNA_TRY(footer.parse_vectors(tail));
  CDNA_TRY(footer.check_items(tail));
  CDNA_TRY(footer.check_names());
  CDNA_TRY(footer.check_order());
  return footer;
}

Result<void> Footer::parse_vectors(const wire::Tail& tail) {
  const FlatVectors found = parse_flat(kFooterLayout, bytes_);
  CDNA_CHECK(found.fault != FlatFault::prefix, Code::malformed, "F2", "the footer does not begin as it must", offset_);
  CDNA_CHECK(found.fault == FlatFault::none, Code::malformed, "F3",
             "the footer's vectors are not laid out as they must be", offset_ + found.fault_offset);
  items_ = elements<wire::Item>(bytes_, found.vectors[0]);
  planes_ = elements<wire::Plane>(bytes_, found.vectors[1]);
  dims_ = elements<std::uint64_t>(bytes_, found.vectors[2]);
  order_ = elements<std::uint32_t>(bytes_, found.vectors[3]);
  text_ = text_of(std::span<const std::byte>(bytes_).subspan(found.vectors[4].offset, found.vectors[4].count));
  CDNA_CHECK(items_.size() == tail.item_count() && order_.size() == items_.size(), Code::malformed, "F4",
             "items and order do not have the tail's item count", offset_ + 52);
  return {};
}

Result<void> Footer::check_items(const wire::Tail& tail) {
  PacketWalk walk(tail.align_log2());
  for (std::uint32_t number = 0; number < item_count(); ++number) {
    const auto check = [&]() -> Result<void> {
      const wire::Item& item = items_[number];
      CDNA_TRY(walk.enter(item));
      const bool within = item.rank() <= dims_.size() - walk.first_dim() &&
                          item.plane_count() <= planes_.size() - walk.first_plane() &&
                          std::uint64_t{item.name_length()} + item.type_length() <= text_.size() - walk.text_offset();
      CDNA_CHECK(within, Code::malformed, "I3", "the item's dims, planes or text reach beyond their vectors");
      walk.leave(item, CDNA_TRY(walk.check(this->item(number), tail.footer_offset(), number + 1 == item_count())));
      return {};
    };
    if (auto result = check(); !result) {
      Error error = std::move(result).error();
      error.offset = offset_of(&items_[number]);
      if (error.plane >= 0) error.offset = offset_of(&item(number).planes[static_cast<std::size_t>(error.plane)]);
      error.message = "item " + std::to_string(number) + ": " + error.message;
      return error;
    }
  }
  const bool used_up =
      walk.first_dim() == dims_.size() && walk.first_plane() == planes_.size() && walk.text_offset() == text_.size();
  CDNA_CHECK(used_up, Code::malformed, "F5", "dims, planes or text hold more than the items use", offset_);
  CDNA_CHECK(walk.packet_offset() == tail.footer_offset(), Code::malformed, "F5",
             "the packets do not end where the footer begins", offset_);
  CDNA_CHECK(
      walk.required_features() == tail.required_features() && walk.optional_features() == tail.optional_features(),
      Code::malformed, "F6", "the tail's features are not those of the items", tail.file_length() - kTailBytes + 16);
  return {};
}

Result<void> Footer::check_names() {
  for (std::uint32_t number = 0; number < item_count(); ++number) {
    const ItemView view = item(number);
    auto result = check_name(view.name);
    if (result) result = check_type(view.type);
    if (!result) {
      result.error().offset = offset_of(view.name.data());
      result.error().message = "item " + std::to_string(number) + ": " + result.error().message;
      return result;
    }
  }
  return {};
}

Result<void> Footer::check_order() {
  std::string_view previous_name;
  bool previous_class = true;
  for (std::size_t i = 0; i < order_.size(); ++i) {
    const std::uint64_t at = offset_of(&order_[i]);
    CDNA_CHECK(order_[i] < items_.size(), Code::malformed, "N5", "order names an item that does not exist", at);
    const ItemView view = item(order_[i]);
    const bool tensor_class = is_tensor_class(*view.item);
    const bool ascends =
        i == 0 || previous_class > tensor_class || (previous_class == tensor_class && previous_name < view.name);
    CDNA_CHECK(ascends, Code::malformed, "N5", "the items are not in strictly ascending order of name", at);
    if (tensor_class) ++named_tensor_count_;
    previous_name = view.name;
    previous_class = tensor_class;
  }
  return {};
}

ItemView Footer::item(std::uint32_t number) const {
  const wire::Item& item = items_[number];
  ItemView view;
  view.item = &item;
  view.dims = dims_.subspan(item.first_dim(), item.rank());
  view.planes = planes_.subspan(item.first_plane(), item.plane_count());
  view.name = text_.substr(item.text_offset(), item.name_length());
  view.type = text_.substr(std::size_t{item.text_offset()} + item.name_length(), item.type_length());
  return view;
}

std::uint32_t Footer::find(bool tensor_class, std::string_view name) const {
  const auto begin = order_.begin() + (tensor_class ? 0 : named_tensor_count_);
  const auto end = tensor_class ? order_.begin() + named_tensor_count_ : order_.end();
  const auto found = std::lower_bound(
      begin, end, name, [this](std::uint32_t number, std::string_view wanted) { return item(number).name < wanted; });
  return found != end && item(*found).name == name ? *found : item_count();
}

std::uint64_t Footer::offset_of(const void* field) const {
  return offset_ + static_cast<std::uint64_t>(static_cast<const std::byte*>(field) - bytes_.data());
}

}  // namespace cdna
