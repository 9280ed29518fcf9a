// Which rows and groups are in the sample, and the turns.
#include "libcdna/encode/group_sample.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "libcdna/encode/scale_table.hpp"
#include "libcdna/encode/value_rows.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kValues = std::uint64_t{1} << 19;
constexpr std::uint64_t kRowsMin = 4;
constexpr std::size_t kGroupMax = 128;
constexpr int kTurns = 3;  // A fourth gains less than 0.01 dB.

}  // namespace

Result<void> GroupSample::read(const TensorRows& rows, ThreadPool& pool) {
  const std::uint64_t wanted = std::min(rows.matrix.rows, std::max(kValues / rows.matrix.cols, kRowsMin));
  const std::uint64_t distance = rows.matrix.rows / wanted;
  const std::uint64_t stride = (wanted * rows.matrix.cols + kValues - 1) / kValues;
  const auto read_part = [&](std::size_t i, unsigned) -> Result<void> {
    for (std::uint64_t row = wanted * i / kParts; row < wanted * (i + 1) / kParts; ++row) {
      CDNA_TRY(rows.check_stop());
      CDNA_TRY(read_row(rows, row * distance, stride, parts_[i]));
    }
    return {};
  };
  return pool.run(kParts, read_part);
}

// Takes every `stride`-th group of a row.
Result<void> GroupSample::read_row(const TensorRows& rows, std::uint64_t row, std::uint64_t stride, Part& part) const {
  const std::uint64_t cols = rows.matrix.cols;
  std::vector<std::byte> buffer;
  const std::span<const std::byte> bytes = CDNA_TRY(rows.bytes(row * rows.row_bytes(), rows.row_bytes(), buffer));
  if (options_.nonfinite == Nonfinite::refuse) {
    if (const auto position = find_nonfinite(rows.dtype, bytes, cols)) return rows.nonfinite_at(row * cols + *position);
  }
  const bool bounded = std::isfinite(outlier_bound_);
  const float rms = bounded ? summary_of(rows.dtype, bytes, cols).rms : 0;
  const float scale = magnitude_of(rows.dtype, bytes, cols, rms, outlier_bound_);
  if (!(scale > 0)) return {};
  const double row_weight = static_cast<double>(scale) * static_cast<double>(scale);
  const std::size_t begin = part.values.size();
  for (std::uint64_t first = 0; first < cols; first += stride * options_.group) {
    const std::size_t place = part.values.size();
    part.values.resize(place + std::min<std::uint64_t>(options_.group, cols - first));
    const std::span<float> values = std::span(part.values).subspan(place);
    const std::span<const float> finite = finite_values_at(rows.dtype, bytes, first, values.size(), values);
    std::transform(finite.begin(), finite.end(), values.begin(),
                   [&](float value) { return bounded && std::abs(value / rms) >= outlier_bound_ ? 0 : value / scale; });
  }
  part.runs.push_back({begin, part.values.size() - begin, row_weight});
  return {};
}

Result<FittedCodebook> GroupSample::fit(ThreadPool& pool) const {
  std::optional<FittedCodebook> fitted;
  for (int turn = 0; turn < kTurns; ++turn) {
    std::array<WeightHistogram, kParts> histograms;
    const auto count_part = [&](std::size_t i, unsigned) -> Result<void> {
      histograms[i] = count(parts_[i], fitted ? &fitted->codebook.tables() : nullptr);
      return {};
    };
    CDNA_TRY(pool.run(kParts, count_part));
    for (std::size_t i = 1; i < kParts; ++i) histograms[0].add(histograms[i]);
    fitted = fit_codebook(histograms[0].samples(), options_);
  }
  return *std::move(fitted);
}

// The values in units of their groups' scales, each with the weight of the error it stands for.
WeightHistogram GroupSample::count(const Part& part, const cdna_codebook* codebook) const {
  const cdna_codebook_kernels& kernels = codebook_kernels();
  const ScaleTable& scales = ScaleTable::of(options_.entries);
  const cdna_scale_table& table = scales.table();
  const std::size_t group = options_.group;
  WeightHistogram histogram;
  std::vector<std::uint8_t> starts;
  std::vector<std::uint8_t> numbers;
  std::array<float, kGroupMax> unit;
  for (const Run& run : part.runs) {
    const std::span<const float> values = std::span(part.values).subspan(run.begin, run.count);
    starts.resize((values.size() + group - 1) / group);
    numbers.resize(starts.size());
    scales.find_starts(kernels, values, group, starts.data());
    if (codebook == nullptr) {
      numbers = starts;
    } else {
      kernels.search_scales(codebook, &table, values.data(), values.size(), group, starts.data(), numbers.data());
    }
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (numbers[i] == 0) continue;
      const std::span<const float> some = values.subspan(i * group, std::min(group, values.size() - i * group));
      kernels.multiply(some.data(), some.size(), table.inverses[numbers[i]], unit.data());
      const auto scale = static_cast<double>(table.values[numbers[i]]);
      histogram.add(std::span(unit).first(some.size()), scale * scale * run.row_weight);
    }
  }
  return histogram;
}

}  // namespace cdna
