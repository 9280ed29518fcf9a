// Codebook tensors whose planes exist already: cut into blocks in parallel, written in order.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "libcdna/encode/row_encoder.hpp"
#include "libcdna/encode/value_rows.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/format/float_bits.hpp"
#include "libcdna/ordered_run.hpp"
#include "libcdna/try.hpp"
#include "libcdna/write/codebook_planes.hpp"
#include "libcdna/write/encoded_planes.hpp"
#include "libcdna/write/writer_session.hpp"

namespace cdna {
namespace {

static_assert(std::endian::native == std::endian::little, "scales are written as they lie in memory");

constexpr double kUnknown = std::numeric_limits<double>::infinity();

TensorStatistics unknown_statistics(const EncodedPlanes& planes) {
  TensorStatistics statistics;
  statistics.sum_squares = kUnknown;
  statistics.sum_squared_error = kUnknown;
  statistics.max_abs_error = kUnknown;
  statistics.outlier_count = planes.outlier_positions.size();
  statistics.excess_kurtosis = std::numeric_limits<double>::quiet_NaN();
  statistics.code_entropy_bits = std::numeric_limits<double>::quiet_NaN();
  return statistics;
}

DType dtype_of(std::span<const float> entries) { return are_halves(entries) ? DType::f16 : DType::f32; }

struct EncodedBlock {
  PreparedBlock codes;
  PreparedBlock outliers;
};

}  // namespace

// One tensor on its way into the file.
class Writer::Session::EncodedTensor {
 public:
  EncodedTensor(Session& session, const TensorSpec& spec, const EncodedPlanes& planes, const MatrixView& matrix,
                ItemDraft draft)
      : session_(session),
        spec_(spec),
        planes_(planes),
        matrix_(matrix),
        statistics_(planes.statistics.value_or(unknown_statistics(planes))),
        outlier_dtype_(outlier_dtype_of(planes, spec.dtype)),
        plan_(plan_codebook_planes(shape())),
        packet_(session.sink_, session.alignment_, std::move(draft), plan_.planes) {}

  Result<std::uint32_t> write() {
    CDNA_TRY(append(plan_.codebook, planes_.codebook));
    if (plan_.row_scales != 0) CDNA_TRY(append(plan_.row_scales, planes_.row_scales));
    CDNA_TRY(append_groups());
    OrderedRun<EncodedBlock> run(
        session_.pool_, [this](std::size_t i, unsigned worker) { return make_block(i, worker); },
        [this](std::size_t, EncodedBlock& block) { return take_block(block); });
    CDNA_TRY(run.run(static_cast<std::size_t>(block_count_of(plan_.planes[0], matrix_))));
    return close();
  }

 private:
  CodebookShape shape() const {
    CodebookShape shape;
    shape.cols = matrix_.cols;
    shape.bits = planes_.bits;
    shape.vector = planes_.vector;
    shape.rank = planes_.low_rank_factors.size();
    shape.column_scales = !planes_.column_scales.empty();
    shape.rows_per_block = plan_code_rows_per_block(shape, spec_.role);
    shape.codec = spec_.codec;
    shape.codebook_dtype = dtype_of(planes_.codebook);
    shape.row_scales = !planes_.row_scales.empty();
    shape.group = planes_.group;
    if (!planes_.group_factors.empty()) shape.group_dtype = dtype_of(planes_.group_factors);
    if (!planes_.group_offsets.empty()) shape.offset_dtype = dtype_of(planes_.group_offsets);
    shape.outlier_dtype = planes_.outlier_positions.empty() ? DType::none : outlier_dtype_;
    shape.statistics = !std::isnan(statistics_.excess_kurtosis) && !std::isnan(statistics_.code_entropy_bits);
    return shape;
  }

  Result<void> append_table(std::size_t plane, std::span<const std::byte> bytes) {
    return packet_.append(plane, prepare_block(session_.encoders_[0], Codec::raw, copy_bytes(bytes)));
  }

  // All of a plane of floats, block after block, as F32 or F16, whichever it is made of.
  Result<void> append(std::size_t plane, std::span<const float> entries) {
    if (static_cast<DType>(plan_.planes[plane].dtype()) == DType::f32)
      return append_blocks(plane, std::as_bytes(entries));
    const std::uint64_t block_entries = block_bytes_of(plane) / sizeof(std::uint16_t);
    std::vector<std::uint16_t> halves;
    for (std::uint64_t at = 0; at < entries.size(); at += block_entries) {
      const auto block = entries.subspan(at, std::min<std::uint64_t>(block_entries, entries.size() - at));
      halves.resize(block.size());
      std::transform(block.begin(), block.end(), halves.begin(), f16_of_f32);
      CDNA_TRY(append_blocks(plane, std::as_bytes(std::span(halves))));
    }
    return {};
  }

  // Of all blocks but the last. (A plane of scope 0 that is cut is one row.)
  std::uint64_t block_bytes_of(std::size_t number) const {
    const wire::Plane& plane = plan_.planes[number];
    if (plane.rows_per_block() == 0) return kCutEntries * plane.bits() / 8;
    return row_bytes_of(plane) * plane.rows_per_block();
  }

  Result<void> append_blocks(std::size_t plane, std::span<const std::byte> bytes) {
    const std::uint64_t block_bytes = block_bytes_of(plane);
    for (std::uint64_t at = 0; at < bytes.size(); at += block_bytes) {
      CDNA_TRY(session_.check_stop());
      CDNA_TRY(append_table(plane, bytes.subspan(at, std::min<std::uint64_t>(block_bytes, bytes.size() - at))));
    }
    return {};
  }

  Result<void> append_groups() {
    if (plan_.scale_table != 0) {
      CDNA_TRY(append_blocks(plan_.group_scales, std::as_bytes(planes_.group_scales)));
      CDNA_TRY(append(plan_.scale_table, planes_.scale_table));
    } else if (plan_.group_scales != 0) {
      CDNA_TRY(append(plan_.group_scales, planes_.group_factors));
    }
    return plan_.group_offsets == 0 ? Result<void>() : append(plan_.group_offsets, planes_.group_offsets);
  }

  // What comes after the outliers.
  Result<void> append_low_rank_and_column_scales() {
    if (plan_.low_rank_left != 0) {
      CDNA_TRY(append(plan_.low_rank_left, planes_.low_rank_left));
      CDNA_TRY(append(plan_.low_rank_factors, planes_.low_rank_factors));
      CDNA_TRY(append(plan_.low_rank_right, planes_.low_rank_right));
    }
    return plan_.column_scales == 0 ? Result<void>() : append(plan_.column_scales, planes_.column_scales);
  }

  Result<EncodedBlock> make_block(std::uint64_t number, unsigned worker) {
    CDNA_TRY(session_.check_stop());
    const BlockPlace place = block_place(plan_.planes[0], matrix_, number);
    const std::uint64_t row_bytes = row_bytes_of(plan_.planes[0]);
    std::vector<std::byte> outliers = outliers_of(place);
    CDNA_CHECK(outliers.size() <= kBlockBytesMax, Code::limit, "X3", "a block has over 16 MiB of outliers");
    BlockEncoder& encoder = session_.encoders_[worker];
    EncodedBlock block;
    block.codes = prepare_block(encoder, spec_.codec,
                                copy_bytes(planes_.codes.subspan(place.row_begin * row_bytes, place.decoded_bytes)),
                                rounded_up(statistics_.max_abs_error));
    block.outliers = prepare_block(encoder, spec_.codec, std::move(outliers));
    return block;
  }

  // Values, then positions within the block.
  std::vector<std::byte> outliers_of(const BlockPlace& place) const {
    const std::span<const std::uint64_t> all = planes_.outlier_positions;
    const std::uint64_t begin = place.row_begin * matrix_.cols;
    const auto first = std::lower_bound(all.begin(), all.end(), begin);
    const auto last = std::lower_bound(first, all.end(), begin + place.row_count * matrix_.cols);
    const std::size_t value_bytes = bits_of(outlier_dtype_) / 8;
    std::vector<std::byte> outliers =
        copy_bytes(planes_.outlier_values.subspan(static_cast<std::size_t>(first - all.begin()) * value_bytes,
                                                  static_cast<std::size_t>(last - first) * value_bytes));
    std::vector<std::uint32_t> positions(static_cast<std::size_t>(last - first));
    std::transform(first, last, positions.begin(),
                   [begin](std::uint64_t position) { return static_cast<std::uint32_t>(position - begin); });
    const std::span<const std::byte> bytes = std::as_bytes(std::span(positions));
    outliers.insert(outliers.end(), bytes.begin(), bytes.end());
    return outliers;
  }

  Result<void> take_block(const EncodedBlock& block) {
    CDNA_TRY(packet_.append(0, block.codes));
    return plan_.outliers == 0 ? Result<void>() : packet_.append(plan_.outliers, block.outliers);
  }

  Result<std::uint32_t> close() {
    CDNA_TRY(append_low_rank_and_column_scales());
    if (plan_.statistics != 0) {
      const std::array<double, kStatisticsEntries> entries{static_cast<double>(statistics_.outlier_count),
                                                           statistics_.excess_kurtosis, statistics_.code_entropy_bits};
      CDNA_TRY(append_table(plan_.statistics, std::as_bytes(std::span(entries))));
    }
    packet_.item().mutate_sum_squares(statistics_.sum_squares);
    packet_.item().mutate_sum_squared_error(statistics_.sum_squared_error);
    if (has_nonfinite_outlier()) packet_.item().mutate_optional_features(kOptionalNonfinite);
    return session_.close_item(packet_, {0, statistics_});
  }

  bool has_nonfinite_outlier() const {
    for (std::size_t i = 0; i < planes_.outlier_positions.size(); ++i)
      if (!std::isfinite(value_at(outlier_dtype_, planes_.outlier_values, i))) return true;
    return false;
  }

  Session& session_;
  const TensorSpec& spec_;
  const EncodedPlanes& planes_;
  const MatrixView matrix_;
  const TensorStatistics statistics_;
  const DType outlier_dtype_;
  const CodebookPlan plan_;
  PacketWriter packet_;
};

Result<std::uint32_t> Writer::Session::add_encoded(const TensorSpec& spec, const EncodedPlanes& planes) {
  CDNA_CHECK(is_float(spec.dtype), Code::bad_argument, "", "only F16, BF16, F32 and F64 can be codebook-encoded");
  CDNA_CHECK(spec.filter == Filter::none, Code::bad_argument, "U7", "byte planes are for exact tensors");
  ItemDraft draft = CDNA_TRY(draft_tensor(spec, kCodebookEncoding));
  const MatrixView matrix = matrix_view(draft.dims, draft.item.row_dims());
  CDNA_CHECK(matrix.rows >= 1 && matrix.cols >= 1 && matrix.cols <= kBlockBytesMax, Code::bad_argument, "",
             "a codebook tensor needs at least one element, and at most 2^24 columns");
  CDNA_TRY(check_encoded_planes(planes, spec.dtype, matrix));
  return EncodedTensor(*this, spec, planes, matrix, std::move(draft)).write();
}

}  // namespace cdna
