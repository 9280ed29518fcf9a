// Which rows and groups are in the sample, and the turns.
#include "libcdna/encode/group_sample.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "libcdna/encode/codebook_options.hpp"
#include "libcdna/encode/scale_table.hpp"
#include "libcdna/encode/value_rows.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kValues = std::uint64_t{1} << 19;
constexpr std::uint64_t kRowsMin = 4;
// Of the sample, as weight that lies anywhere between the largest magnitudes: entries must not all go to the few values
// that a sample may happen to have. Of usual weights it takes nothing.
constexpr double kUnseenShare = 1.0 / 4096;
constexpr int kTurns = 3;  // A fourth gains less than 0.01 dB.

// As good as random, and the same everywhere: splitmix64 (Steele, Lea and Flood 2014).
std::uint64_t scrambled(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ x >> 27) * 0x94D049BB133111EBULL;
  return x ^ x >> 31;
}

// A place in part i of `parts` equal parts of [0, size). Places at equal distances would see only a part of what is
// periodic. Requires: i < parts <= size, parts < 2^32.
std::uint64_t place_in_part(std::uint64_t size, std::uint64_t parts, std::uint64_t i) {
  const auto begin_of = [&](std::uint64_t part) { return size / parts * part + size % parts * part / parts; };
  const std::uint64_t begin = begin_of(i);
  return begin + scrambled(begin) % (begin_of(i + 1) - begin);
}

}  // namespace

Result<void> GroupSample::read(const TensorRows& rows, ThreadPool& pool) {
  const std::uint64_t wanted = std::min(rows.matrix.rows, std::max(kValues / rows.matrix.cols, kRowsMin));
  const std::uint64_t stride = (wanted * rows.matrix.cols + kValues - 1) / kValues;
  const auto read_part = [&](std::size_t i, unsigned) -> Result<void> {
    for (std::uint64_t row = wanted * i / kParts; row < wanted * (i + 1) / kParts; ++row) {
      CDNA_TRY(rows.check_stop());
      CDNA_TRY(read_row(rows, place_in_part(rows.matrix.rows, wanted, row), stride, parts_[i]));
    }
    return {};
  };
  return pool.run(kParts, read_part);
}

// Takes one of every `stride` groups of a row.
Result<void> GroupSample::read_row(const TensorRows& rows, std::uint64_t row, std::uint64_t stride, Part& part) const {
  const std::uint64_t cols = rows.matrix.cols;
  std::vector<std::byte> buffer;
  const std::span<const std::byte> bytes = CDNA_TRY(rows.bytes(row * rows.row_bytes(), rows.row_bytes(), buffer));
  const float rms = summary_of(rows.dtype, bytes, cols).rms;
  const float scale = magnitude_of(rows.dtype, bytes, cols, rms, outlier_bound_);
  if (!(scale > 0)) return {};
  std::array<float, kGroupMax> scratch;
  const std::uint64_t groups = (cols + options_.group - 1) / options_.group;
  const std::uint64_t parts = (groups + stride - 1) / stride;
  for (std::uint64_t i = 0; i < parts; ++i) {
    const std::uint64_t first = place_in_part(groups, parts, i) * options_.group;
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(options_.group, cols - first));
    append_group(values_at(rows.dtype, bytes, first, count, scratch), rms, scale, part);
  }
  return {};
}

// Appends what is neither an outlier nor a value that is not finite.
void GroupSample::append_group(std::span<const float> values, float rms, float scale, Part& part) const {
  const std::size_t begin = part.values.size();
  for (const float value : values) {
    const bool counts = rms > 0 ? std::abs(value / rms) < outlier_bound_ : std::isfinite(value);
    if (counts) part.values.push_back(value / scale);
  }
  const std::size_t count = part.values.size() - begin;
  if (count == 0) return;
  const double weight = static_cast<double>(scale) * static_cast<double>(scale);
  Run* const last = part.runs.empty() ? nullptr : &part.runs.back();
  const bool goes_on = last != nullptr && last->row_weight == weight && last->count % options_.group == 0;
  if (goes_on) {
    last->count += count;
  } else {
    part.runs.push_back({begin, count, weight});
  }
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
    fitted = fit_codebook(histograms[0].samples(kUnseenShare), options_);
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
