// A file in private memory, made of planes that exist already.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>

#include "aligned_bytes.hpp"
#include "cdna/writer.hpp"
#include "container.hpp"
#include "libcdna/no_throw.hpp"
#include "python_error.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

template <class T>
std::span<const T> elements_of(const std::optional<Borrowed>& borrowed, const char* name) {
  if (!borrowed) return {};
  const std::span<const std::byte> bytes = borrowed->read();
  if (bytes.size() % sizeof(T) != 0 || reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(T) != 0)
    raise_bad_argument(std::string(name) + " is not whole, aligned elements");
  return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
}

std::optional<Borrowed> borrow(const nb::object& object) {
  if (object.is_none()) return std::nullopt;
  return Borrowed::bytes(object);
}

Result<Reader> write_and_open(const TensorSpec& spec, const EncodedPlanes& planes, AlignedBytes& out) {
  constexpr std::size_t kFrame = 64 << 10;  // Head, footer, tail, gaps: of one tensor.
  auto reserved = no_throw([&]() -> Result<void> {
    out.reserve(planes.codes.size() + planes.codebook.size_bytes() + planes.row_scales.size_bytes() +
                planes.group_scales.size_bytes() + planes.scale_table.size_bytes() + planes.outlier_values.size() +
                planes.outlier_positions.size_bytes() + planes.codes.size() / 256 + kFrame);
    return {};
  });
  if (!reserved) return std::move(reserved).error();
  auto writer = Writer::create(std::make_unique<AlignedSink>(out));
  if (!writer) return std::move(writer).error();
  auto added = writer->add_encoded(spec, planes);
  if (!added) return std::move(added).error();
  auto root = writer->finish();
  if (!root) return std::move(root).error();
  return Reader::open(memory_source(out.bytes()));
}

Container pack(std::string_view dtype, std::vector<std::uint64_t> shape, std::uint32_t bits, std::uint32_t group,
               const nb::object& codebook, const nb::object& codes, const nb::object& row_scales,
               const nb::object& group_scales, const nb::object& scale_table, const nb::object& outlier_values,
               const nb::object& outlier_positions, std::string name) {
  const std::optional<Borrowed> borrowed[] = {borrow(codebook),         borrow(codes),       borrow(row_scales),
                                              borrow(group_scales),     borrow(scale_table), borrow(outlier_values),
                                              borrow(outlier_positions)};
  EncodedPlanes planes;
  planes.bits = bits;
  planes.group = group;
  planes.codebook = elements_of<float>(borrowed[0], "codebook");
  planes.codes = elements_of<std::byte>(borrowed[1], "codes");
  planes.row_scales = elements_of<float>(borrowed[2], "row_scales");
  planes.group_scales = elements_of<std::uint8_t>(borrowed[3], "group_scales");
  planes.scale_table = elements_of<float>(borrowed[4], "scale_table");
  planes.outlier_values = elements_of<std::byte>(borrowed[5], "outlier_values");
  planes.outlier_positions = elements_of<std::uint64_t>(borrowed[6], "outlier_positions");
  TensorSpec spec;
  spec.name = std::move(name);
  spec.dtype = dtype_named(dtype);
  spec.shape = std::move(shape);
  spec.role = Role::matrix;
  auto memory = std::make_shared<AlignedBytes>();
  Reader reader = without_gil([&] { return write_and_open(spec, planes, *memory); });
  return Container(std::make_shared<Opened>(std::move(memory), std::move(reader)));
}

}  // namespace

void add_pack(nb::module_& module) {
  module.def("pack", &pack, nb::arg("dtype"), nb::arg("shape"), nb::arg("bits"), nb::arg("group"), nb::arg("codebook"),
             nb::arg("codes"), nb::arg("row_scales") = nb::none(), nb::arg("group_scales") = nb::none(),
             nb::arg("scale_table") = nb::none(), nb::arg("outlier_values") = nb::none(),
             nb::arg("outlier_positions") = nb::none(), nb::arg("name") = "weight");
}

}  // namespace cdna::python
