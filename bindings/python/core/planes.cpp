// The planes of a tensor: in place where they lie raw in a mapping, else copied.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>

#include <cstring>
#include <string>
#include <vector>

#include "container.hpp"
#include "python_error.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

void check_plane(const Item& item, std::uint32_t plane) {
  if (plane >= item.plane_count()) throw nb::index_error("no such plane");
}

nb::list planes(const Container& container, std::uint32_t number) {
  const auto opened = container.opened();
  const Item item = container.item(number);
  nb::list planes;
  for (std::uint32_t i = 0; i < item.plane_count(); ++i) {
    const PlaneInfo info = item.plane(i);
    nb::dict fields;
    fields["role"] = info.role;
    fields["dtype"] = text_of(name_of(info.dtype));
    fields["bits"] = info.bits;
    fields["scope"] = info.scope;
    fields["layout"] = info.layout;
    fields["codecs"] = info.codecs;
    fields["group"] = info.group;
    fields["offset"] = info.offset;
    fields["stored_bytes"] = info.stored_bytes;
    fields["rows"] = info.rows;
    fields["row_entries"] = info.row_entries;
    fields["vector"] = info.vector;
    fields["rows_per_block"] = info.rows_per_block;
    fields["block_count"] = info.block_count;
    planes.append(fields);
  }
  return planes;
}

// A whole plane where it lies, or None where that cannot be: read_plane() then copies it.
std::optional<View> plane_view(const Container& container, std::uint32_t number, std::uint32_t plane) {
  const auto opened = container.opened();
  const Item item = container.item(number);
  check_plane(item, plane);
  auto bytes = [&] {
    const GilReleased released;
    return item.plane_bytes(plane);
  }();
  if (bytes) return container.view(*bytes);
  if (bytes.error().code == Code::bad_argument) return std::nullopt;
  raise(bytes.error());
}

// A whole plane, verified and decoded, into `out`, which has exactly its bytes.
void read_plane(const Container& container, std::uint32_t number, std::uint32_t plane, const nb::object& out) {
  const auto opened = container.opened();
  const Item item = container.item(number);
  check_plane(item, plane);
  const Borrowed borrowed = Borrowed::bytes(out, Borrowed::Access::write);
  without_gil([&] { return item.read_plane(plane, borrowed.write()); });
}

// The outliers of a tensor: values in their plane's dtype, and places in the row-major matrix, u64.
nb::tuple outliers(const Container& container, std::uint32_t number) {
  const auto opened = container.opened();
  const Tensor tensor = container.tensor(number);
  std::vector<std::byte> values;
  std::vector<std::uint64_t> positions;
  without_gil([&]() -> Result<void> {
    auto range = tensor.blocks();
    if (!range) return std::move(range).error();
    for (const Result<Block>& block : *range) {
      if (!block) return block.error();
      values.insert(values.end(), block->outlier_values.begin(), block->outlier_values.end());
      for (std::uint64_t i = 0; i < block->outlier_count; ++i) {
        std::uint32_t place = 0;
        std::memcpy(&place, block->outlier_positions.data() + i * sizeof place, sizeof place);
        const std::uint64_t row = block->row_begin + place / block->entry_count;
        positions.push_back(row * tensor.cols() + block->entry_begin + place % block->entry_count);
      }
    }
    return {};
  });
  return nb::make_tuple(nb::bytes(values.data(), values.size()),
                        nb::bytes(positions.data(), positions.size() * sizeof(std::uint64_t)));
}

// The codebook's entries [2^bits, vector], widened to f32. Copied: they lie beside the file.
nb::bytes codebook(const Container& container, std::uint32_t number) {
  const auto opened = container.opened();
  const Tensor tensor = container.tensor(number);
  const std::span<const float> entries = without_gil([&] { return tensor.codebook(); });
  return nb::bytes(entries.data(), entries.size_bytes());
}

}  // namespace

void add_planes(nb::module_&, nb::class_<Container>& container) {
  container.def("planes", &planes)
      .def("plane_view", &plane_view)
      .def("read_plane", &read_plane)
      .def("outliers", &outliers)
      .def("codebook", &codebook)
      .def("prefetch",
           [](const Container& self, std::uint32_t number, std::uint64_t begin, std::uint64_t end) {
             const auto opened = self.opened();
             const Tensor tensor = self.tensor(number);
             if (begin > end || end > tensor.rows()) raise_bad_argument("the rows are not within the tensor");
             without_gil([&] { return tensor.prefetch(begin, end); });
           })
      .def("evict", [](const Container& self, std::uint32_t number, std::uint64_t begin, std::uint64_t end) {
        const auto opened = self.opened();
        const Tensor tensor = self.tensor(number);
        if (begin > end || end > tensor.rows()) raise_bad_argument("the rows are not within the tensor");
        without_gil([&] { return tensor.evict(begin, end); });
      });
}

}  // namespace cdna::python
