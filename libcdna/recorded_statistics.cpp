// The statistics plane is one row of f64, of which later versions may use more than the first three entries.
#include "libcdna/recorded_statistics.hpp"

#include <cmath>
#include <limits>
#include <string>

#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/plane_reader.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

enum StatisticsEntry : std::size_t { kOutlierCountAt, kExcessKurtosisAt, kCodeEntropyAt, kStatisticsCount };

// As in the table of spec/format.md, 13.3. The plane may be ignored, and one of another shape is.
bool is_readable(const wire::Plane& plane) {
  return static_cast<DType>(plane.dtype()) == DType::f64 && plane.bits() == 64 && plane.scope() == kWhole &&
         plane.row_entries() >= kStatisticsCount && plane.layout() == kContiguous && plane.group() == 0 &&
         plane.vector() == 1;
}

std::uint64_t outliers_in_index(const ItemView& view, const TouchedItem& touched) {
  const wire::Plane* const outliers = find_plane(view, kOutliers);
  if (outliers == nullptr) return 0;
  const auto number = static_cast<std::size_t>(outliers - view.planes.data());
  const std::uint64_t bytes_each = bits_of(static_cast<DType>(outliers->dtype())) / 8 + sizeof(std::uint32_t);
  std::uint64_t count = 0;
  for (std::uint64_t block = 0; block < outliers->block_count(); ++block)
    count += touched.entries[touched.planes[number].first_entry + block].decoded_length() / bytes_each;
  return count;
}

Result<void> load_plane(const File& file, std::uint32_t item, const wire::Plane& plane, TensorStatistics& out) {
  const ItemView view = file.footer().item(item);
  const auto number = static_cast<std::uint32_t>(&plane - view.planes.data());
  PlaneReader reader = CDNA_TRY(PlaneReader::create(file, item, number, 1));
  const std::span<const std::byte> bytes = CDNA_TRY(reader.fetch(0));
  const auto entry = [bytes](StatisticsEntry at) { return load<double>(bytes.subspan(sizeof(double) * at)); };
  const double count = entry(kOutlierCountAt);
  const MatrixView matrix = view.matrix();
  if (!(count >= 0 && count <= static_cast<double>(matrix.rows * matrix.cols) && count == std::floor(count))) {
    Error error = fail(Code::malformed, "D4", "the recorded number of outliers is not one that the tensor can have",
                       plane.offset());
    error.plane = static_cast<std::int32_t>(number);
    error.block = 0;
    return file.placed(std::move(error), item);
  }
  out.outlier_count = static_cast<std::uint64_t>(count);
  out.excess_kurtosis = entry(kExcessKurtosisAt);
  out.code_entropy_bits = entry(kCodeEntropyAt);
  return {};
}

}  // namespace

Result<TensorStatistics> load_statistics(const File& file, std::uint32_t item) {
  const ItemView view = file.footer().item(item);
  const TouchedItem* const touched = CDNA_TRY(file.touch(item));
  TensorStatistics out;
  out.sum_squares = view.item->sum_squares();
  out.sum_squared_error = view.item->sum_squared_error();
  out.max_abs_error = static_cast<double>(view.item->max_abs_error());
  out.outlier_count = outliers_in_index(view, *touched);
  out.excess_kurtosis = kUnknown;
  out.code_entropy_bits = kUnknown;
  const wire::Plane* const plane = find_plane(view, kStatistics);
  if (plane != nullptr && is_readable(*plane)) CDNA_TRY(load_plane(file, item, *plane, out));
  return out;
}

}  // namespace cdna
