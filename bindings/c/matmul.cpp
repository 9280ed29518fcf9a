// Multiplying with tensors, and saying how.
#include "cdna/matmul.hpp"

#include <algorithm>
#include <optional>
#include <vector>

#include "bindings/c/arguments.hpp"
#include "bindings/c/reader.hpp"
#include "bindings/c/workers.hpp"

namespace cdna::c {
namespace {

Result<Math> math_of(std::uint32_t math) {
  switch (math) {
    case CDNA_MATH_F32:
      return Math::f32;
    case CDNA_MATH_BF16:
      return Math::bf16;
    case CDNA_MATH_INT8:
      return Math::int8;
    default:
      return bad_argument("options->math is " + std::to_string(math));
  }
}

Result<Orientation> orientation_of(std::uint32_t orientation) {
  switch (orientation) {
    case CDNA_LINEAR:
      return Orientation::linear;
    case CDNA_TRANSPOSED:
      return Orientation::transposed;
    default:
      return bad_argument("options->orientation is " + std::to_string(orientation));
  }
}

Result<std::optional<Isa>> isa_of(const char* name) {
  if (name == nullptr) return std::optional<Isa>{};
  for (const Isa isa : kIsas) {
    if (name_of(isa) == name) return std::optional<Isa>(isa);
  }
  return bad_argument("options->isa is '" + std::string(name) + "'");
}

Result<DType> dtype_of_matrix(std::uint32_t dtype, const std::string& name) {
  if (dtype == CDNA_F32 || dtype == CDNA_F16 || dtype == CDNA_BF16) return static_cast<DType>(dtype);
  return bad_argument(name + "->dtype is " + std::to_string(dtype));
}

// Adds the distance of the last from the first in one direction. False where it cannot be counted.
bool add_reach(std::uint64_t count, std::int64_t stride, std::uint64_t& reach) {
  const auto step = stride < 0 ? ~static_cast<std::uint64_t>(stride) + 1 : static_cast<std::uint64_t>(stride);
  std::uint64_t distance = 0;
  return !__builtin_mul_overflow(count - 1, step, &distance) && !__builtin_add_overflow(reach, distance, &reach);
}

// That the places of all elements can be counted in bytes, in both directions.
Result<void> check_strides(const cdna_matrix& matrix, const std::string& name) {
  constexpr std::uint64_t kElementsMax = std::uint64_t{1} << 60;
  std::uint64_t reach = 0;
  if (add_reach(matrix.rows, matrix.row_stride, reach) && add_reach(matrix.cols, matrix.col_stride, reach) &&
      reach <= kElementsMax)
    return {};
  return bad_argument(name + " has strides " + std::to_string(matrix.row_stride) + " and " +
                      std::to_string(matrix.col_stride) + ", beyond any memory");
}

bool is_empty(const cdna_matrix& matrix) { return matrix.rows == 0 || matrix.cols == 0; }

Result<DType> check_matrix(const cdna_matrix* matrix, const std::string& name) {
  CDNA_TRY(need(matrix, name.c_str()));
  CDNA_TRY(need_zero(matrix->reserved, (name + "->reserved").c_str()));
  const DType dtype = CDNA_TRY(dtype_of_matrix(matrix->dtype, name));
  if (is_empty(*matrix)) return dtype;
  CDNA_TRY(need(matrix->data, (name + "->data").c_str()));
  CDNA_TRY(check_strides(*matrix, name));
  return dtype;
}

Result<ConstMatrix> source_of(const cdna_matrix* matrix, const char* name) {
  const DType dtype = CDNA_TRY(check_matrix(matrix, name));
  return ConstMatrix{matrix->data, dtype, matrix->rows, matrix->cols, matrix->row_stride, matrix->col_stride};
}

Result<Matrix> target_of(const cdna_matrix* matrix) {
  const DType dtype = CDNA_TRY(check_matrix(matrix, "y"));
  const bool one_place = (matrix->rows > 1 && matrix->row_stride == 0) || (matrix->cols > 1 && matrix->col_stride == 0);
  if (!is_empty(*matrix) && one_place) return bad_argument("y has a stride of 0: its elements share their places");
  return Matrix{
      const_cast<void*>(matrix->data), dtype, matrix->rows, matrix->cols, matrix->row_stride, matrix->col_stride};
}

// ---- Parts ----

Result<WeightRows> part_of(const cdna_rows& part, std::uint64_t number) {
  const auto numbered = [number](Error error) {
    if (error.code == Code::bad_argument) error.message = "parts[" + std::to_string(number) + "]: " + error.message;
    return error;
  };
  if (part.reserved[0] != 0 || part.reserved[1] != 0) return numbered(bad_argument("reserved is not 0"));
  const auto rows = row_range(part.reader, part.tensor, part.row_begin, part.row_end);
  if (!rows) return numbered(rows.error());
  return WeightRows(rows->named.tensor, rows->begin, rows->end);
}

Result<std::vector<WeightRows>> parts_of(const cdna_rows* parts, std::uint64_t part_count) {
  CDNA_TRY(need(parts, "parts"));
  if (part_count == 0) return bad_argument("part_count is 0");
  std::vector<WeightRows> out;
  for (std::uint64_t i = 0; i < part_count; ++i) out.push_back(CDNA_TRY(part_of(parts[i], i)));
  return out;
}

// ---- Options ----

Result<MatmulOptions> options_with(const cdna_matmul_options& given, Workers* workers) {
  MatmulOptions out;
  out.math = CDNA_TRY(math_of(given.math));
  out.orientation = CDNA_TRY(orientation_of(given.orientation));
  out.accumulate = given.accumulate != 0;
  if (given.bias != nullptr) out.bias = CDNA_TRY(source_of(given.bias, "options->bias"));
  out.isa = CDNA_TRY(isa_of(given.isa));
  out.workers = workers;
  if (given.scratch_bytes_max != 0) out.scratch_bytes_max = given.scratch_bytes_max;
  if (given.resident_bytes_max != 0) out.resident_bytes_max = given.resident_bytes_max;
  return out;
}

// A y without elements takes no time, however many rows it has.
void cut_if_empty(ConstMatrix& x, Matrix& y) {
  if (y.cols != 0 || x.rows != y.rows) return;
  x.rows = std::min<std::uint64_t>(x.rows, 1);
  y.rows = x.rows;
}

Result<void> multiply(const cdna_rows* parts, std::uint64_t part_count, const cdna_matrix* x, const cdna_matrix* y,
                      const cdna_matmul_options* options) {
  const cdna_matmul_options given = CDNA_TRY(take_options(options, "options"));
  const WorkersInUse use(given.workers);
  CDNA_TRY(use.begin());
  const MatmulOptions with = CDNA_TRY(options_with(given, use.get()));
  const std::vector<WeightRows> weights = CDNA_TRY(parts_of(parts, part_count));
  ConstMatrix from = CDNA_TRY(source_of(x, "x"));
  Matrix to = CDNA_TRY(target_of(y));
  cut_if_empty(from, to);
  CDNA_TRY(matmul(weights, from, to, with));
  return use.end();
}

cdna_matmul_plan plan_of(const MatmulPlan& given) {
  cdna_matmul_plan plan{};
  plan.threads = given.threads;
  plan.passes = given.passes;
  plan.scratch_bytes = given.scratch_bytes;
  put(plan.kernel, given.kernel);
  put(plan.loop, given.loop);
  put(plan.products, given.products);
  put(plan.isa, name_of(given.isa));
  put(plan.io, given.io);
  put(plan.trust, given.trust);
  put(plan.blocks, given.blocks);
  return plan;
}

Result<void> describe_product(const cdna_rows* parts, std::uint64_t part_count, std::uint64_t m,
                              const cdna_matmul_options* options, cdna_matmul_plan* ret_plan) {
  const cdna_matmul_options given = CDNA_TRY(take_options(options, "options"));
  Workers* const workers = given.workers == nullptr ? nullptr : &*given.workers->workers;  // Asked for their number.
  const MatmulOptions with = CDNA_TRY(options_with(given, workers));
  const std::vector<WeightRows> weights = CDNA_TRY(parts_of(parts, part_count));
  CDNA_TRY(struct_size(ret_plan, "ret_plan"));
  return give_struct(plan_of(CDNA_TRY(describe(weights, m, with))), ret_plan, "ret_plan");
}

}  // namespace
}  // namespace cdna::c

extern "C" {

cdna_code cdna_matmul(const cdna_rows* parts, uint64_t part_count, const cdna_matrix* x, const cdna_matrix* y,
                      const cdna_matmul_options* options, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::multiply(parts, part_count, x, y, options); });
}

cdna_code cdna_matmul_describe(const cdna_rows* parts, uint64_t part_count, uint64_t m,
                               const cdna_matmul_options* options, cdna_matmul_plan* ret_plan, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::describe_product(parts, part_count, m, options, ret_plan); });
}

}  // extern "C"
