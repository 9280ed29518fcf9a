// measure(): a writer without a file encodes rows of a tensor in each preset, and what it reports is scaled up.
#include <algorithm>
#include <cmath>
#include <string>

#include "cdna/planner.hpp"
#include "cdna/writer.hpp"
#include "libcdna/encode/codebook_options.hpp"
#include "libcdna/format/geometry.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/thread_pool.hpp"
#include "libcdna/try.hpp"
#include "libcdna/write/plane_plan.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kValuesMax = std::uint64_t{1} << 20;
constexpr std::uint64_t kRowValuesMax = kBlockBytesMax;         // Longer rows are not for codebooks,
constexpr std::uint64_t kPieceValues = std::uint64_t{1} << 17;  // so they may be cut.
constexpr double kScaleTableEntries = 256;                      // f32 (spec/format.md, 13.2).

class NullSink final : public Sink {
 public:
  Result<void> write(std::span<const std::byte>) override { return {}; }
  Result<void> commit() override { return {}; }
};

// Some rows of a tensor, evenly spread.
struct Sample {
  MatrixView matrix;       // Of the tensor; very long rows as pieces, without what is left over.
  std::uint64_t rows = 0;  // In the sample.
  std::uint64_t row_bytes = 0;
  std::vector<std::byte> bytes;

  // Row of the tensor. No overflow: rows < 2^20 unless all rows are taken.
  std::uint64_t row_at(std::uint64_t i) const { return i * (matrix.rows / rows) + i * (matrix.rows % rows) / rows; }
};

MatrixView view_of(const TrialTensor& tensor) {
  const MatrixView matrix = matrix_view(tensor.shape, default_row_dims(tensor.dtype, tensor.shape));
  if (matrix.cols <= kRowValuesMax) return matrix;
  return {static_cast<std::uint64_t>(u128{matrix.rows} * matrix.cols / kPieceValues), kPieceValues};
}

Result<Sample> read_sample(const TrialTensor& tensor, std::size_t number, const TrialReader& reader,
                           std::uint64_t values_max) {
  Sample sample;
  sample.matrix = view_of(tensor);
  sample.rows = std::min(sample.matrix.rows, std::max<std::uint64_t>(1, values_max / sample.matrix.cols));
  sample.row_bytes = (sample.matrix.cols * bits_of(tensor.dtype) + 7) / 8;
  sample.bytes.resize(sample.rows * sample.row_bytes);
  const auto rows = std::span(sample.bytes);
  if (sample.rows == sample.matrix.rows) {
    CDNA_TRY(reader(number, 0, rows));
    return sample;
  }
  for (std::uint64_t i = 0; i < sample.rows; ++i) {
    const std::uint64_t offset = sample.row_at(i) * sample.row_bytes;
    CDNA_TRY(reader(number, offset, rows.subspan(i * sample.row_bytes, sample.row_bytes)));
  }
  return sample;
}

// What a codebook tensor has once, whatever its rows: codebook and scale table, and their index entries.
double fixed_bytes_of(const Preset& preset) {
  if (preset.method != Preset::Method::codebook) return 0;
  const std::uint64_t entries = std::uint64_t{1} << code_bits(preset.codebook);
  const double codebook = static_cast<double>(entries * sizeof(std::uint16_t));
  const double table = preset.codebook.group == 0 ? 0 : kScaleTableEntries * sizeof(float) + sizeof(wire::IndexEntry);
  return codebook + sizeof(wire::IndexEntry) + table;
}

Result<WrittenItem> write(const TrialTensor& tensor, const Sample& sample, const Preset& preset,
                          const TrialOptions& options) {
  WriterOptions writer_options;
  writer_options.stop = options.stop;
  Writer writer = CDNA_TRY(Writer::create(std::make_unique<NullSink>(), writer_options));
  TensorSpec spec{"trial", tensor.dtype, {sample.rows, sample.matrix.cols}, tensor.role, options.codec, Filter::none};
  const ByteReader data = [&sample](std::uint64_t offset, std::span<std::byte> out) -> Result<void> {
    std::copy_n(sample.bytes.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  };
  std::uint32_t item = 0;
  if (preset.method == Preset::Method::codebook) {
    CodebookOptions codebook = preset.codebook;
    codebook.nonfinite = Nonfinite::exact;  // To be refused with its place in the tensor, not in the sample.
    item = CDNA_TRY(writer.add_codebook(spec, codebook, data));
  } else {
    if (preset.method == Preset::Method::exact_z) {
      spec.codec = Codec::zstd;
      spec.filter = Filter::byte_planes;
    }
    item = CDNA_TRY(writer.add_exact(spec, data));
  }
  return writer.written(item);
}

OperatingPoint scale_up(const WrittenItem& written, const Preset& preset, const Sample& sample) {
  OperatingPoint point;
  const TensorStatistics& statistics = written.statistics;
  if (statistics.sum_squared_error > 0) point.relative_error = statistics.sum_squared_error / statistics.sum_squares;
  if (!std::isfinite(point.relative_error)) point.relative_error = 0;  // Sums beyond f64, of any preset.
  if (sample.rows == sample.matrix.rows) {
    point.stored_bytes = written.stored_bytes;
    return point;
  }
  const double fixed = fixed_bytes_of(preset);
  const double growth = static_cast<double>(sample.matrix.rows) / static_cast<double>(sample.rows);
  point.stored_bytes =
      static_cast<std::uint64_t>(std::llround(fixed + (static_cast<double>(written.stored_bytes) - fixed) * growth));
  return point;
}

// Of an exact tensor whose blocks are stored as they are.
std::uint64_t raw_bytes_of(const TrialTensor& tensor) {
  const MatrixView matrix = matrix_view(tensor.shape, default_row_dims(tensor.dtype, tensor.shape));
  PlaneShape shape;
  shape.dtype = tensor.dtype;
  shape.bits = bits_of(tensor.dtype);
  shape.row_entries = matrix.cols;
  shape.rows_per_block =
      plan_rows_per_block(static_cast<std::uint64_t>((u128{matrix.cols} * shape.bits + 7) / 8), tensor.role);
  const wire::Plane plane = make_plane(shape);
  return static_cast<std::uint64_t>(decoded_bytes_of(plane, matrix) +
                                    block_count_of(plane, matrix) * sizeof(wire::IndexEntry));
}

Result<std::vector<OperatingPoint>> measure_tensor(const TrialTensor& tensor, std::size_t number,
                                                   const TrialReader& reader, const TrialOptions& options) {
  const MatrixView matrix = view_of(tensor);
  const bool empty = matrix.rows == 0 || matrix.cols == 0;
  const std::uint64_t values_max = options.values_max == 0 ? kValuesMax : options.values_max;
  Sample sample;
  std::vector<OperatingPoint> points;
  for (const Preset& preset : tensor.presets) {
    CDNA_CHECK(options.stop == nullptr || !options.stop->load(std::memory_order_relaxed), Code::cancelled, "",
               "stopped on request");
    if (empty || (preset.method == Preset::Method::exact && options.codec == Codec::raw)) {
      points.push_back({raw_bytes_of(tensor), 0});
      continue;
    }
    if (sample.rows == 0) sample = CDNA_TRY(read_sample(tensor, number, reader, values_max));
    points.push_back(scale_up(CDNA_TRY(write(tensor, sample, preset, options)), preset, sample));
  }
  return points;
}

}  // namespace

Result<std::vector<std::vector<OperatingPoint>>> measure(std::span<const TrialTensor> tensors,
                                                         const TrialReader& reader, const TrialOptions& options) {
  return no_throw([&]() -> Result<std::vector<std::vector<OperatingPoint>>> {
    std::vector<std::vector<OperatingPoint>> points(tensors.size());
    ThreadPool pool(options.threads);
    const auto measure_one = [&](std::size_t i, unsigned) -> Result<void> {
      auto result = measure_tensor(tensors[i], i, reader, options);
      if (!result) {
        result.error().item = tensors[i].name;
        return std::move(result).error();
      }
      points[i] = *std::move(result);
      return {};
    };
    CDNA_TRY(pool.run(tensors.size(), measure_one));
    return points;
  });
}

}  // namespace cdna
