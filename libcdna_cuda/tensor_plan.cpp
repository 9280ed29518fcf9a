// Refuses what kernels cannot multiply with, and lays out the rest.
#include "libcdna_cuda/tensor_plan.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "libcdna/file.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/format/float_bits.hpp"
#include "libcdna/format/geometry.hpp"
#include "libcdna/plane_reader.hpp"
#include "libcdna/try.hpp"

namespace cdna::cuda {
namespace {

constexpr std::uint64_t kPartAlignment = 256;  // As cudaMalloc's own.
// What linear.cu checks. Of columns: outliers have 28 bits for theirs.
constexpr std::uint64_t kColumnsEnd = std::uint64_t{1} << 28;
constexpr std::uint64_t kNumberMax = std::numeric_limits<std::uint32_t>::max();  // Of rows, tiles, outliers.
constexpr std::uint64_t kDeviceBytesMax = std::uint64_t{1} << 62;
constexpr std::uint32_t kSegmentBits = 4;  // pwl has 16 segments.

Error refuse(const Tensor& tensor, Code code, std::string message) {
  return file_of(tensor).placed(fail(code, "", std::move(message)), tensor.number());
}

Result<void> choose_rows(TensorPlan& plan, const Slice& slice) {
  const std::uint64_t rows = plan.tensor.rows();
  plan.row_end = rows;
  if (slice.shard_count != 0 && plan.tensor.shape().size() >= 2) {
    const auto cut = [&](std::uint64_t index) {
      return static_cast<std::uint64_t>(u128{rows} * index / slice.shard_count);
    };
    plan.row_begin = cut(slice.shard_index);
    plan.row_end = cut(std::uint64_t{slice.shard_index} + 1);
  }
  if (slice.row_end != 0) plan.row_end = slice.row_end;
  if (slice.row_begin != 0) plan.row_begin = slice.row_begin;
  if (plan.row_begin <= plan.row_end && plan.row_end <= rows) return {};
  return refuse(plan.tensor, Code::bad_argument,
                "rows " + std::to_string(plan.row_begin) + " to " + std::to_string(plan.row_end) + " of " +
                    std::to_string(rows) + " were asked for");
}

void choose_blocks(TensorPlan& plan, const ItemView& view) {
  if (plan.rows() == 0 || plan.cols == 0 || view.planes[0].block_count() == 0) return;
  const wire::Plane& plane = view.planes[0];
  plan.block_begin = block_at(plane, plan.row_begin, 0);
  plan.block_end = block_at(plane, plan.row_end - 1, plane.row_entries() - 1) + 1;
}

// ---- Codebooks ----

Result<void> take_entries(TensorPlan& plan) {
  plan.entries.assign(std::size_t{1} << plan.device_bits, 0);
  for (std::size_t i = 0; i < plan.decoder.codebook.size(); ++i) {
    const float entry = plan.decoder.codebook[i];
    plan.entries[i] = f16_of_f32(entry);
    if (!std::isfinite(entry))
      return file_of(plan.tensor)
          .placed(fail(Code::malformed, "D1", "codebook entry " + std::to_string(i) + " is not finite"),
                  plan.tensor.number());
    if (f32_of_f16(plan.entries[i]) != entry)
      return refuse(plan.tensor, Code::unsupported,
                    "codebook entry " + std::to_string(i) + " is not a binary16 number, as kernels need it");
  }
  for (const float scale : plan.decoder.scale_table) {
    if (std::isfinite(scale)) continue;
    return file_of(plan.tensor)
        .placed(fail(Code::malformed, "D1", "an entry of the scale table is not finite"), plan.tensor.number());
  }
  return {};
}

// Whether entries are what the plane of role pwl or affine states (spec/format.md, 13.3).
bool holds(const TensorPlan& plan, std::span<const std::uint16_t> lines, bool pwl) {
  const std::size_t segment = std::size_t{1} << (pwl ? plan.decoder.bits - kSegmentBits : plan.decoder.bits);
  for (std::size_t code = 0; code < plan.decoder.codebook.size(); ++code) {
    const double base = f32_of_f16(lines[2 * (code / segment)]);
    const double step = f32_of_f16(lines[2 * (code / segment) + 1]);
    if (!std::isfinite(base) || !std::isfinite(step)) return false;
    if (f16_of_f64(base + static_cast<double>(code % segment) * step + 0.0) != plan.entries[code]) return false;
  }
  return true;
}

// A statement that is wrong, or of another shape, is passed over: the codebook is what counts.
Result<void> take_curve(TensorPlan& plan, const ItemView& view, PlaneRole role) {
  const bool pwl = role == kPwl;
  const wire::Plane* const plane = find_plane(view, role);
  if (plane == nullptr || plan.device_bits != plan.decoder.bits || (pwl && plan.decoder.bits <= kSegmentBits))
    return {};
  if (static_cast<DType>(plane->dtype()) != DType::f16 || plane->bits() != 16 || plane->scope() != kWhole ||
      plane->layout() != kContiguous || plane->group() != 0 || plane->vector() != 1 ||
      plane->row_entries() != (pwl ? 32U : 2U) || plane->block_count() != 1)
    return {};
  PlaneReader reader = CDNA_TRY(PlaneReader::create(file_of(plan.tensor), plan.tensor.number(),
                                                    static_cast<std::uint32_t>(plane - view.planes.data()), 1));
  const std::span<const std::byte> bytes = CDNA_TRY(reader.fetch(0));
  std::vector<std::uint16_t> lines;
  for (std::size_t i = 0; i + 2 <= bytes.size(); i += 2) lines.push_back(load<std::uint16_t>(bytes.subspan(i)));
  if (!holds(plan, lines, pwl)) return {};
  plan.lines = std::move(lines);
  plan.curve = pwl ? cdna_cuda::Curve::pwl : cdna_cuda::Curve::affine;
  return {};
}

Result<void> count_outliers(TensorPlan& plan, const ItemView& view) {
  const wire::Plane* const plane = find_plane(view, kOutliers);
  if (plane == nullptr) return {};
  plan.outlier_dtype = static_cast<DType>(plane->dtype());
  const std::uint64_t each = bits_of(plan.outlier_dtype) / 8 + sizeof(std::uint32_t);
  const TouchedPlane touched = CDNA_TRY(
      file_of(plan.tensor).touch(plan.tensor.number(), static_cast<std::uint32_t>(plane - view.planes.data())));
  for (std::uint64_t block = plan.block_begin; block < plan.block_end; ++block)
    plan.outliers_max += touched.entry(block).decoded_length() / each;
  if (plan.outliers_max == 0) return {};
  if (plan.outliers_max > kNumberMax)
    return refuse(plan.tensor, Code::unsupported, "more outliers than kernels can number");
  return {};
}

Result<void> check_size(const TensorPlan& plan) {
  if (plan.rows() <= kNumberMax && plan.cols < kColumnsEnd && plan.tiles() <= kNumberMax) return {};
  return refuse(plan.tensor, Code::unsupported, "more rows, columns or tiles than kernels can number");
}

// By the planes alone: nothing has been read for a tensor that is refused.
Result<void> check_plain(const TensorPlan& plan, const ItemView& view) {
  const RowDecoder decoder = RowDecoder::of(view, {});
  if (decoder.is_plain()) return {};
  std::string what = "group offsets";
  if (decoder.vector != 1) what = "codes for " + std::to_string(decoder.vector) + " elements";
  if (decoder.group == 16) what = "groups of 16";
  if (decoder.rank != 0) what = "a matrix of low rank";
  if (decoder.has_column_scales) what = "column scales";
  return refuse(plan.tensor, Code::unsupported, what + ": kernels on a device do not know them");
}

Result<void> take_codebook(TensorPlan& plan, const ItemView& view) {
  CDNA_TRY(check_size(plan));
  const std::uint32_t bits = view.planes[0].bits();
  plan.device_bits = cdna_cuda::device_bits(bits);
  if (plan.device_bits == 0)
    return refuse(plan.tensor, Code::unsupported, "codes of " + std::to_string(bits) + " bits: kernels take at most 8");
  if (plan.tensor.may_be_nonfinite())
    return refuse(plan.tensor, Code::unsupported, "the tensor may hold infinities or NaN (NONFINITE)");
  CDNA_TRY(check_plain(plan, view));
  const CodebookTables& tables = *CDNA_TRY(file_of(plan.tensor).tables(plan.tensor.number()));
  plan.decoder = RowDecoder::of(view, tables);
  if (plan.decoder.group != 0)
    plan.group_scale_type =
        plan.decoder.group_dtype == DType::u8 ? cdna_cuda::ScaleType::u8 : cdna_cuda::ScaleType::f32;
  CDNA_TRY(take_entries(plan));
  CDNA_TRY(take_curve(plan, view, kPwl));
  if (plan.curve == cdna_cuda::Curve::none) CDNA_TRY(take_curve(plan, view, kAffine));
  return count_outliers(plan, view);
}

// ---- Places ----

// Bytes of each part, which may be more than there can be.
std::array<u128, kPartCount> part_bytes(const TensorPlan& plan, const ItemView& view) {
  std::array<u128, kPartCount> bytes{};
  if (!plan.is_codebook) {
    bytes[kElements] = u128{plan.rows()} * row_bytes_of(view.planes[0]);
    return bytes;
  }
  const u128 tiles = u128{plan.row_tiles()} * cdna_cuda::tiles_of_columns(plan.cols);
  bytes[kTiles] = tiles * cdna_cuda::tile_bytes(plan.device_bits);
  bytes[kEntries] = plan.entries.size() * sizeof(std::uint16_t);
  bytes[kLines] = plan.lines.size() * sizeof(std::uint16_t);
  if (plan.decoder.has_row_scale) bytes[kRowScales] = u128{plan.row_tiles()} * cdna_cuda::kTileRows * sizeof(float);
  if (plan.decoder.group != 0) {
    const std::size_t each = plan.group_scale_type == cdna_cuda::ScaleType::u8 ? 1 : sizeof(float);
    bytes[kGroupScales] = tiles * (cdna_cuda::kTileRows * cdna_cuda::kTileColumns / plan.decoder.group * each);
  }
  bytes[kScaleTable] = plan.decoder.scale_table.size() * sizeof(float);
  if (plan.outliers_max != 0) {
    bytes[kOutlierBegin] = (tiles + 1) * sizeof(std::uint32_t);
    for (const Part part : {kOutlierPlaces, kOutlierValues, kOutlierDeltas})
      bytes[part] = u128{plan.outliers_max} * sizeof(std::uint32_t);
  }
  return bytes;
}

Result<void> lay_out(TensorPlan& plan, const ItemView& view, std::uint64_t offset) {
  const std::array<u128, kPartCount> bytes = part_bytes(plan, view);
  u128 end = offset;
  for (std::size_t part = 0; part < kPartCount; ++part) {
    if (bytes[part] == 0) continue;
    if (bytes[part] > kDeviceBytesMax || end > kDeviceBytesMax)
      return refuse(plan.tensor, Code::limit, "the tensor is larger than any device");
    end = (end + kPartAlignment - 1) / kPartAlignment * kPartAlignment;
    plan.parts[part] = {static_cast<std::uint64_t>(end), static_cast<std::uint64_t>(bytes[part])};
    plan.device_bytes += plan.parts[part].bytes;
    end += bytes[part];
  }
  return {};
}

}  // namespace

Result<TensorPlan> TensorPlan::of(const Tensor& tensor, const Slice& slice, std::uint64_t offset) {
  CDNA_TRY(tensor.check_supported());
  TensorPlan plan{.tensor = tensor, .cols = tensor.cols(), .parts = {}, .decoder = {}, .entries = {}, .lines = {}};
  const ItemView view = file_of(tensor).footer().item(tensor.number());
  CDNA_TRY(file_of(tensor).touch(tensor.number()));
  CDNA_TRY(choose_rows(plan, slice));
  choose_blocks(plan, view);
  plan.is_codebook = view.type == kCodebookEncoding;
  if (plan.is_codebook) CDNA_TRY(take_codebook(plan, view));
  CDNA_TRY(lay_out(plan, view, offset));
  return plan;
}

}  // namespace cdna::cuda
