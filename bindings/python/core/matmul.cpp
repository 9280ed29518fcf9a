// Multiplying arrays of Python's with a tensor from its file.
#include "cdna/matmul.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string_view.h>

#include <string>

#include "container.hpp"
#include "python_error.hpp"
#include "threads.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

Math math_named(std::string_view name) {
  for (const Math math : {Math::f32, Math::bf16, Math::int8})
    if (name_of(math) == name) return math;
  raise_bad_argument("math is \"" + std::string(name) + "\": \"f32\", \"bf16\" or \"int8\"");
}

// A two-dimensional array as the library has it.
Matrix matrix_of(const Borrowed& array, std::string_view dtype_name) {
  const Py_buffer& layout = array.layout();
  Matrix matrix;
  matrix.dtype = dtype_named(dtype_name);
  const auto item = static_cast<Py_ssize_t>(bits_of(matrix.dtype) / 8);
  if (layout.ndim != 2 || layout.itemsize != item) raise_bad_argument("not a matrix of " + std::string(dtype_name));
  if (layout.strides[0] % item != 0 || layout.strides[1] % item != 0)
    raise_bad_argument("the strides are not whole elements");
  matrix.data = layout.buf;
  matrix.rows = static_cast<std::uint64_t>(layout.shape[0]);
  matrix.cols = static_cast<std::uint64_t>(layout.shape[1]);
  matrix.row_stride = layout.strides[0] / item;
  matrix.col_stride = layout.strides[1] / item;
  return matrix;
}

void multiply(const Container& container, std::uint32_t number, std::uint64_t row_begin, std::uint64_t row_end,
              const nb::object& x, std::string_view x_dtype, const nb::object& y, std::string_view y_dtype,
              bool transposed, std::string_view math, std::uint64_t threads) {
  const auto opened = container.opened();
  const Tensor tensor = container.tensor(number);
  const Borrowed x_array = Borrowed::array(x);
  const Borrowed y_array = Borrowed::array(y, Borrowed::Access::write);
  const ConstMatrix x_matrix = matrix_of(x_array, x_dtype);
  const Matrix y_matrix = matrix_of(y_array, y_dtype);
  const WeightRows rows(tensor, row_begin, row_end);
  MatmulOptions options;
  options.math = math_named(math);
  options.orientation = transposed ? Orientation::transposed : Orientation::linear;
  without_gil([&] {
    Workers workers(thread_count(threads));
    options.workers = &workers;
    return matmul(std::span(&rows, 1), x_matrix, y_matrix, options);
  });
}

nb::dict plan(const Container& container, std::uint32_t number, std::uint64_t m, bool transposed, std::string_view math,
              std::uint64_t threads) {
  const auto opened = container.opened();
  MatmulOptions options;
  options.math = math_named(math);
  options.orientation = transposed ? Orientation::transposed : Orientation::linear;
  Workers workers(thread_count(threads));
  options.workers = &workers;
  const MatmulPlan plan = value_of(describe(container.tensor(number), m, options));
  nb::dict fields;
  fields["kernel"] = text_of(plan.kernel);
  fields["loop"] = text_of(plan.loop);
  fields["products"] = text_of(plan.products);
  fields["isa"] = text_of(name_of(plan.isa));
  fields["io"] = text_of(plan.io);
  fields["trust"] = text_of(plan.trust);
  fields["blocks"] = text_of(plan.blocks);
  fields["threads"] = plan.threads;
  fields["passes"] = plan.passes;
  fields["scratch_bytes"] = plan.scratch_bytes;
  return fields;
}

}  // namespace

void add_matmul(nb::class_<Container>& container) { container.def("matmul", &multiply).def("matmul_plan", &plan); }

}  // namespace cdna::python
