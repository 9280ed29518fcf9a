// The compressor without a file.
#include "cdna/encode.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <memory>
#include <string>

#include "container.hpp"
#include "interruptible.hpp"
#include "python_error.hpp"
#include "threads.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

class Encoded {
 public:
  explicit Encoded(EncodedMatrix matrix) : matrix_(std::make_shared<const EncodedMatrix>(std::move(matrix))) {}
  const EncodedMatrix& matrix() const { return *matrix_; }

  View plane(std::string_view name) const {
    const EncodedMatrix& m = *matrix_;
    if (name == "codebook") return {matrix_, bytes_of(m.codebook)};
    if (name == "codes") return {matrix_, bytes_of(m.codes)};
    if (name == "row_scales") return {matrix_, bytes_of(m.row_scales)};
    if (name == "group_scales") return {matrix_, bytes_of(m.group_scales)};
    if (name == "scale_table") return {matrix_, bytes_of(m.scale_table)};
    if (name == "outlier_values") return {matrix_, bytes_of(m.outlier_values)};
    if (name == "outlier_positions") return {matrix_, bytes_of(m.outlier_positions)};
    raise_bad_argument("no such plane");
  }

 private:
  std::shared_ptr<const EncodedMatrix> matrix_;
};

Encoded encode_rows(const nb::object& data, std::string_view dtype_name, std::uint64_t rows, std::uint64_t cols,
                    std::string_view preset_text, bool keep_nonfinite, std::uint64_t threads) {
  const Borrowed borrowed = Borrowed::bytes(data);
  const DType dtype = dtype_named(dtype_name);
  Preset preset = value_of(parse_preset(preset_text));
  if (preset.method != Preset::Method::codebook)
    raise_bad_argument("\"" + std::string(preset_text) + "\" makes no codes");
  if (keep_nonfinite) preset.codebook.nonfinite = Nonfinite::exact;
  const std::span<const std::byte> bytes = borrowed.read();
  if (bytes.size() != rows * cols * bits_of(dtype) / 8) raise_bad_argument("the data is not rows * cols elements");
  return Encoded(without_gil([&] { return encode(dtype, rows, cols, bytes, preset.codebook, thread_count(threads)); }));
}

void decode_rows(const Encoded& encoded, const nb::object& out) {
  const Borrowed borrowed = Borrowed::bytes(out, Borrowed::Access::write);
  const std::span<std::byte> bytes = borrowed.write();
  const EncodedMatrix& matrix = encoded.matrix();
  if (bytes.size() != matrix.rows * matrix.cols * sizeof(float)) raise_bad_argument("the output has another size");
  const GilReleased released;
  decode(matrix, {reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)});
}

}  // namespace

void add_encode(nb::module_& module) {
  nb::class_<Encoded>(module, "Encoded")
      .def("plane", &Encoded::plane)
      .def("decode", &decode_rows)
      .def_prop_ro("rows", [](const Encoded& self) { return self.matrix().rows; })
      .def_prop_ro("cols", [](const Encoded& self) { return self.matrix().cols; })
      .def_prop_ro("bits", [](const Encoded& self) { return self.matrix().bits; })
      .def_prop_ro("group", [](const Encoded& self) { return self.matrix().group; })
      .def_prop_ro("dtype", [](const Encoded& self) { return text_of(name_of(self.matrix().dtype)); })
      .def_prop_ro("payload_bytes", [](const Encoded& self) { return self.matrix().payload_bytes(); })
      .def_prop_ro("bits_per_weight", [](const Encoded& self) { return self.matrix().bits_per_weight(); })
      .def_prop_ro("sum_squares", [](const Encoded& self) { return self.matrix().statistics.sum_squares; })
      .def_prop_ro("sum_squared_error", [](const Encoded& self) { return self.matrix().statistics.sum_squared_error; })
      .def_prop_ro("max_abs_error", [](const Encoded& self) { return self.matrix().statistics.max_abs_error; });
  module.def("encode", &encode_rows);
}

}  // namespace cdna::python
