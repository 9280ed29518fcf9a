// Counting all values by rows, and the choice between that and the sample of groups.
#include "libcdna/encode/tensor_fit.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "libcdna/encode/group_sample.hpp"
#include "libcdna/encode/value_rows.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::size_t kSamplePiece = 4096;

// Adds the scaled finite values of a row. Returns how many are not finite.
std::uint64_t count_row(DType dtype, std::span<const std::byte> row, std::uint64_t cols,
                        MagnitudeHistogram& histogram) {
  const RowSummary summary = summary_of(dtype, row, cols);
  if (!(summary.rms > 0)) return summary.nonfinite_count;
  std::array<float, kSamplePiece> scratch;
  for (std::uint64_t first = 0; first < cols; first += kSamplePiece) {
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(kSamplePiece, cols - first));
    const std::span<const float> values = values_at(dtype, row, first, count, scratch);
    codebook_kernels().divide(values.data(), count, summary.rms, scratch.data());
    // What is not finite is no value to fit to, and stays what it is when divided.
    const auto end = summary.nonfinite_count == 0
                         ? scratch.begin() + static_cast<std::ptrdiff_t>(count)
                         : std::remove_if(scratch.begin(), scratch.begin() + static_cast<std::ptrdiff_t>(count),
                                          [](float v) { return !std::isfinite(v); });
    codebook_kernels().count_magnitudes(scratch.data(), static_cast<std::size_t>(end - scratch.begin()),
                                        histogram.recent());
  }
  return summary.nonfinite_count;
}

// The scaled values of all rows.
Result<MagnitudeHistogram> count_rows(const TensorRows& rows, Nonfinite nonfinite, ThreadPool& pool) {
  std::vector<std::unique_ptr<MagnitudeHistogram>> partial(pool.size());  // Of those that had a block.
  std::vector<std::vector<std::byte>> buffers(pool.size());
  const auto count_block = [&](std::size_t block, unsigned worker) -> Result<void> {
    CDNA_TRY(rows.check_stop());
    if (!partial[worker]) partial[worker] = std::make_unique<MagnitudeHistogram>();
    const std::span<const std::byte> bytes = CDNA_TRY(rows.bytes(
        rows.row_begin(block) * rows.row_bytes(), rows.row_count(block) * rows.row_bytes(), buffers[worker]));
    for (std::uint64_t row = 0; row < rows.row_count(block); ++row) {
      const std::span<const std::byte> row_bytes = bytes.subspan(row * rows.row_bytes(), rows.row_bytes());
      const std::uint64_t bad = count_row(rows.dtype, row_bytes, rows.matrix.cols, *partial[worker]);
      if (bad == 0 || nonfinite != Nonfinite::refuse) continue;
      const std::uint64_t place = find_nonfinite(rows.dtype, row_bytes, rows.matrix.cols).value_or(0);
      return rows.nonfinite_at((rows.row_begin(block) + row) * rows.matrix.cols + place);
    }
    partial[worker]->collect();
    return {};
  };
  CDNA_TRY(pool.run(rows.block_count(), count_block));
  MagnitudeHistogram all;
  for (const auto& some : partial) {
    if (some) all.add(*some);
  }
  return all;
}

}  // namespace

std::uint64_t TensorRows::row_count(std::uint64_t block) const {
  return std::min<std::uint64_t>(rows_per_block, matrix.rows - row_begin(block));
}

Result<std::span<const std::byte>> TensorRows::bytes(std::uint64_t offset, std::uint64_t size,
                                                     std::vector<std::byte>& buffer) const {
  if (data == nullptr) return memory.subspan(offset, size);
  if (buffer.size() < size) buffer.resize(size);
  const std::span<std::byte> out = std::span(buffer).first(size);
  CDNA_TRY((*data)(offset, out));
  return std::span<const std::byte>(out);
}

Result<void> TensorRows::check_stop() const {
  CDNA_CHECK(stop == nullptr || !stop->load(std::memory_order_relaxed), Code::cancelled, "", "stopped on request");
  return {};
}

Error TensorRows::nonfinite_at(std::uint64_t position) const {
  return fail(Code::bad_argument, "",
              "row " + std::to_string(position / matrix.cols) + ", column " + std::to_string(position % matrix.cols) +
                  " is NaN, infinite, or beyond f32: keep this tensor exact (cdna convert --keep-exact NAME), or such "
                  "values (--nonfinite exact)");
}

Result<FittedTensor> fit_tensor(const TensorRows& rows, const CodebookOptions& options, ThreadPool& pool) {
  float bound = std::numeric_limits<float>::infinity();
  Samples samples;
  if (options.group == 0 || options.outlier_fraction > 0) {
    const MagnitudeHistogram histogram = CDNA_TRY(count_rows(rows, options.nonfinite, pool));
    if (options.outlier_fraction > 0) bound = histogram.bound_above(options.outlier_fraction);
    if (options.group == 0) samples = histogram.samples_below(bound);
  }
  if (options.group == 0) return FittedTensor{fit_codebook(samples, options), bound};
  GroupSample sample(options, bound);
  CDNA_TRY(sample.read(rows, pool));
  return FittedTensor{CDNA_TRY(sample.fit(pool)), bound};
}

}  // namespace cdna
