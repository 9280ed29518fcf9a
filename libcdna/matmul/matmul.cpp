// The public calls.
#include "cdna/matmul.hpp"

#include <algorithm>

#include "libcdna/cpu.hpp"
#include "libcdna/matmul/job.hpp"
#include "libcdna/matmul/kernels.hpp"
#include "libcdna/matmul/operands.hpp"
#include "libcdna/matmul/team.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

bool is_operand(DType dtype) { return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16; }

std::string shape_text(std::uint64_t rows, std::uint64_t cols) {
  return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
}

Result<void> check_shapes(std::span<const WeightRows> parts, const ConstMatrix& x, const Matrix& y,
                          const MatmulOptions& options) {
  CDNA_CHECK(!parts.empty(), Code::bad_argument, "", "no tensor to multiply with");
  std::uint64_t rows = 0;
  for (const WeightRows& part : parts) {
    CDNA_CHECK(!__builtin_add_overflow(rows, part.row_end - part.row_begin, &rows), Code::bad_argument, "",
               "the tensors have more rows than can be counted");
  }
  const std::uint64_t cols = parts[0].tensor.cols();
  const bool linear = options.orientation == Orientation::linear;
  const std::uint64_t inner = linear ? cols : rows;
  const std::uint64_t outer = linear ? rows : cols;
  CDNA_CHECK(is_operand(x.dtype) && is_operand(y.dtype), Code::bad_argument, "", "x and y are F32, F16 or BF16");
  CDNA_CHECK(x.cols == inner, Code::bad_argument, "",
             "x is " + shape_text(x.rows, x.cols) + " and needs " + std::to_string(inner) + " columns");
  CDNA_CHECK(y.rows == x.rows && y.cols == outer, Code::bad_argument, "",
             "y is " + shape_text(y.rows, y.cols) + " and has to be " + shape_text(x.rows, outer));
  if (!options.bias) return {};
  CDNA_CHECK(is_operand(options.bias->dtype) && options.bias->rows == 1 && options.bias->cols == outer,
             Code::bad_argument, "",
             "the bias is " + shape_text(options.bias->rows, options.bias->cols) + " and has to be " +
                 shape_text(1, outer) + ", F32, F16 or BF16");
  return {};
}

Result<void> multiply(std::span<const WeightRows> parts, const ConstMatrix& x, const Matrix& y,
                      const MatmulOptions& options) {
  CDNA_TRY(check_isa());
  CDNA_TRY(check_shapes(parts, x, y, options));
  Job job = CDNA_TRY(Job::plan(parts, x.rows, options));
  for (Weights& weights : job.parts) CDNA_TRY(weights.load_finish_tables());
  const Output output(y, options);
  Team team(options.workers, job.threads);
  const auto pass = job.orientation == Orientation::linear ? multiply_linear : multiply_transposed;
  for (std::uint64_t begin = 0; begin < x.rows; begin += job.rows_per_pass) {
    const std::uint64_t end = std::min(begin + job.rows_per_pass, x.rows);
    CDNA_TRY(pass(job, x, begin, end, output, team));
  }
  return {};
}

// ---- describe() ----

// What a codebook tensor has that kernels do not know.
std::string extensions_text(const RowDecoder& decoder) {
  std::string text;
  if (decoder.vector != 1) text += ", vectors of " + std::to_string(decoder.vector);
  if (decoder.group == 16) text += ", groups of 16";
  if (decoder.offset_dtype != DType::none) text += ", group offsets";
  if (decoder.rank != 0) text += ", low rank " + std::to_string(decoder.rank);
  if (decoder.has_column_scales) text += ", column scales";
  return text;
}

std::string kernel_text(const Weights& weights) {
  if (weights.form == WeightForm::values) return "values, " + std::string(name_of(weights.dtype));
  const std::string bits = std::to_string(weights.decoder.bits) + " bits";
  if (weights.form == WeightForm::decoded) return "decoded codes, " + bits + extensions_text(weights.decoder);
  const bool half = weights.lookup->is_half != 0;
  const std::string scales = weights.decoder.group == 0 ? "" : ", groups of " + std::to_string(weights.decoder.group);
  return "codes, " + bits + scales + (half ? ", binary16 codebook" : ", f32 codebook");
}

std::string products_text(const Job& job) {
  switch (job.math) {
    case Math::f32:
      break;
    case Math::bf16:
      if (job.orientation == Orientation::transposed) return "bf16 in f32";
      return bf16_products(job.isa, !job.dot);
    case Math::int8:
      return int8_products(job.isa);
  }
  return "f32";
}

std::string blocks_text(const Weights& weights) {
  const std::uint8_t codecs = weights.plane->codecs();
  std::string text;
  const auto add = [&](const std::string& name) { text += (text.empty() ? "" : " and ") + name; };
  if ((codecs & 2) != 0) add("zstd");
  if ((codecs & 4) != 0) add("brotli");
  if ((codecs & 1) != 0) add(weights.file->zero_copy() ? "raw, in place" : "raw, copied");
  return text;
}

// What is the same for all parts once, what is not for each.
template <class Text>
std::string text_of_parts(const Job& job, const Text& text) {
  std::string all;
  std::string last;
  for (const Weights& weights : job.parts) {
    const std::string one = text(weights);
    if (one == last) continue;
    all += (all.empty() ? "" : "; ") + one;
    last = one;
  }
  return all;
}

}  // namespace

std::string_view name_of(Math math) {
  static constexpr std::string_view kNames[] = {"f32", "bf16", "int8"};
  return kNames[static_cast<std::size_t>(math)];
}

ConstMatrix row_major(const float* data, std::uint64_t rows, std::uint64_t cols) {
  return {data, DType::f32, rows, cols, static_cast<std::int64_t>(cols), 1};
}

Matrix row_major(float* data, std::uint64_t rows, std::uint64_t cols) {
  return {data, DType::f32, rows, cols, static_cast<std::int64_t>(cols), 1};
}

Result<void> matmul(std::span<const WeightRows> parts, const ConstMatrix& x, const Matrix& y,
                    const MatmulOptions& options) {
  return no_throw([&] { return multiply(parts, x, y, options); });
}

Result<void> matmul(const Tensor& tensor, const ConstMatrix& x, const Matrix& y, const MatmulOptions& options) {
  const WeightRows all(tensor);
  return matmul({&all, 1}, x, y, options);
}

Result<MatmulPlan> describe(std::span<const WeightRows> parts, std::uint64_t m, const MatmulOptions& options) {
  return no_throw([&]() -> Result<MatmulPlan> {
    CDNA_TRY(check_isa());
    const Job job = CDNA_TRY(Job::plan(parts, m, options));
    MatmulPlan plan;
    plan.kernel = text_of_parts(job, kernel_text);
    plan.loop = job.dot ? "dot" : "tile";
    plan.products = products_text(job);
    plan.isa = job.isa;
    plan.io = text_of_parts(job, [](const Weights& weights) { return std::string(weights.file->source().backend()); });
    plan.trust = text_of_parts(
        job, [](const Weights& weights) { return std::string(weights.file->zero_copy() ? "zero_copy" : "strict"); });
    plan.blocks = text_of_parts(job, blocks_text);
    plan.threads = job.threads;
    plan.passes = m == 0 ? 0 : (m - 1) / job.rows_per_pass + 1;
    plan.scratch_bytes = job.scratch_bytes;
    return plan;
  });
}

Result<MatmulPlan> describe(const Tensor& tensor, std::uint64_t m, const MatmulOptions& options) {
  const WeightRows all(tensor);
  return describe({&all, 1}, m, options);
}

}  // namespace cdna
