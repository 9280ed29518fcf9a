// The public compressor in memory: fit, rows in parallel, planes put together.
#include "cdna/encode.hpp"

#include <algorithm>

#include "libcdna/cpu.hpp"
#include "libcdna/encode/codebook_options.hpp"
#include "libcdna/encode/row_encoder.hpp"
#include "libcdna/encode/scale_table.hpp"
#include "libcdna/encode/tensor_fit.hpp"
#include "libcdna/encode/value_rows.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"
#include "libcdna/write/plane_plan.hpp"

namespace cdna {
namespace {

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

void append_rows(const EncodedRows& rows, std::uint64_t first_position, EncodedMatrix& matrix) {
  append(matrix.row_scales, rows.row_scales);
  append(matrix.group_scales, rows.group_scales);
  append(matrix.outlier_values, rows.outlier_values);
  for (const std::uint32_t position : rows.outlier_positions)
    matrix.outlier_positions.push_back(first_position + position);
}

Result<EncodedMatrix> encode_matrix(const TensorRows& rows, const CodebookOptions& options, ThreadPool& pool) {
  const FittedTensor fit = CDNA_TRY(fit_tensor(rows, options, pool));
  const Codebook& codebook = fit.fitted.codebook;
  EncodedMatrix matrix;
  matrix.dtype = rows.dtype;
  matrix.rows = rows.matrix.rows;
  matrix.cols = rows.matrix.cols;
  matrix.bits = codebook.bits();
  matrix.group = options.group;
  matrix.codebook.assign(codebook.values().begin(), codebook.values().end());
  const ScaleTable& scales = ScaleTable::of(options.entries);
  if (options.group != 0) matrix.scale_table.assign(std::begin(scales.table().values), std::end(scales.table().values));

  const RowCoding coding{rows.dtype, rows.matrix.cols, options, &codebook, &scales, fit.outlier_bound};
  matrix.codes.resize(matrix.rows * coding.code_bytes());
  std::vector<EncodedRows> blocks(rows.block_count());
  const auto encode_block = [&](std::size_t i, unsigned) -> Result<void> {
    const std::span<const std::byte> bytes =
        rows.memory.subspan(rows.row_begin(i) * rows.row_bytes(), rows.row_count(i) * rows.row_bytes());
    const std::span<std::byte> codes = std::span(matrix.codes).subspan(rows.row_begin(i) * coding.code_bytes());
    blocks[i] = RowEncoder(coding).encode(bytes, codes.first(rows.row_count(i) * coding.code_bytes()));
    if (blocks[i].first_nonfinite && options.nonfinite == Nonfinite::refuse)
      return rows.nonfinite_at(rows.row_begin(i) * rows.matrix.cols + *blocks[i].first_nonfinite);
    return {};
  };
  CDNA_TRY(pool.run(blocks.size(), encode_block));
  ErrorSums sums;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    append_rows(blocks[i], rows.row_begin(i) * rows.matrix.cols, matrix);
    sums.add(blocks[i].sums);
    blocks[i] = {};
  }
  matrix.statistics = sums.statistics();
  return matrix;
}

}  // namespace

std::uint64_t EncodedMatrix::payload_bytes() const {
  return codes.size() + 2 * codebook.size() + sizeof(float) * (row_scales.size() + scale_table.size()) +
         group_scales.size() + outlier_values.size() + sizeof(std::uint32_t) * outlier_positions.size();
}

double EncodedMatrix::bits_per_weight() const {
  return 8 * static_cast<double>(payload_bytes()) / (static_cast<double>(rows) * static_cast<double>(cols));
}

Result<EncodedMatrix> encode(DType dtype, std::uint64_t rows, std::uint64_t cols, std::span<const std::byte> data,
                             const CodebookOptions& options, unsigned threads) {
  return no_throw([&]() -> Result<EncodedMatrix> {
    CDNA_TRY(check_isa());
    CDNA_TRY(check_options(options));
    CDNA_CHECK(is_float(dtype), Code::bad_argument, "", "only F16, BF16, F32 and F64 can be codebook-encoded");
    CDNA_CHECK(rows >= 1 && cols >= 1 && cols <= kBlockBytesMax, Code::bad_argument, "",
               "a codebook tensor needs at least one element, and at most 2^24 columns");
    const TensorRows source{dtype, {rows, cols}, plan_rows_per_block((cols * code_bits(options) + 7) / 8, Role::matrix),
                            data,  nullptr,      nullptr};
    ThreadPool pool(threads);
    return encode_matrix(source, options, pool);
  });
}

EncodedPlanes view(const EncodedMatrix& matrix) {
  EncodedPlanes planes;
  planes.bits = matrix.bits;
  planes.group = matrix.group;
  planes.codebook = matrix.codebook;
  planes.codes = matrix.codes;
  planes.row_scales = matrix.row_scales;
  planes.group_scales = matrix.group_scales;
  planes.scale_table = matrix.scale_table;
  planes.outlier_values = matrix.outlier_values;
  planes.outlier_positions = matrix.outlier_positions;
  planes.statistics = matrix.statistics;
  return planes;
}

void decode(const EncodedMatrix& matrix, std::span<float> out) {
  decode(view(matrix), matrix.dtype, matrix.cols, 0, out);
}

}  // namespace cdna
