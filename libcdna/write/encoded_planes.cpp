// Sizes first, then values: nothing is read beyond what the sizes allow.
#include "libcdna/write/encoded_planes.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "libcdna/code_histogram.hpp"
#include "libcdna/encode/value_rows.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/format/float_bits.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint32_t kBitsMax = 16;
constexpr std::size_t kScaleTableEntries = 256;

Error wrong(const char* rule, std::string message) { return fail(Code::bad_argument, rule, std::move(message)); }

Result<void> check_size(const char* plane, u128 expected, std::size_t found) {
  if (expected == found) return {};
  const bool fits = expected <= ~std::uint64_t{0};
  return wrong("", std::string(plane) + ": " + std::to_string(found) + ", where bits, group and shape give " +
                       (fits ? std::to_string(static_cast<std::uint64_t>(expected)) : "more than 2^64"));
}

// Of codes and what they are looked up in.
Result<void> check_codes(const EncodedPlanes& planes, const MatrixView& matrix) {
  CDNA_CHECK(planes.bits >= 1 && planes.bits <= kBitsMax, Code::bad_argument, "E2",
             "codes of " + std::to_string(planes.bits) + " bits: they have 1 to 16");
  CDNA_CHECK(planes.vector == 1 || planes.vector == 2 || planes.vector == 4, Code::bad_argument, "U6",
             "codes for " + std::to_string(planes.vector) + " elements: they are for 1, 2 or 4");
  CDNA_CHECK(matrix.cols % planes.vector == 0, Code::bad_argument, "E2",
             "codes for " + std::to_string(planes.vector) + " elements do not divide " + std::to_string(matrix.cols) +
                 " columns");
  const std::uint64_t row_bytes = (matrix.cols / planes.vector * planes.bits + 7) / 8;
  CDNA_CHECK(row_bytes <= kBlockBytesMax, Code::bad_argument, "P6", "a row has over 2^24 bytes of codes");
  CDNA_TRY(check_size("codebook entries", u128{planes.vector} << planes.bits, planes.codebook.size()));
  return check_size("bytes of codes", u128{matrix.rows} * row_bytes, planes.codes.size());
}

Result<void> check_groups(const EncodedPlanes& planes, const MatrixView& matrix) {
  const std::uint32_t group = planes.group;
  CDNA_CHECK(group == 0 || group == 16 || group == 32 || group == 64 || group == 128, Code::bad_argument, "E2",
             "groups of " + std::to_string(group) + ": they are of 16, 32, 64 or 128 columns, or 0 for none");
  const u128 count = group == 0 ? u128{0} : u128{matrix.rows} * ((matrix.cols + group - 1) / group);
  const bool numbered = planes.group_factors.empty();
  CDNA_CHECK(numbered || (planes.group_scales.empty() && planes.scale_table.empty()), Code::bad_argument, "E2",
             "group scales are numbers of a table or the scales themselves, not both");
  if (numbered) {
    CDNA_TRY(check_size("group scales", count, planes.group_scales.size()));
    CDNA_TRY(check_size("entries of the scale table", group == 0 ? 0 : kScaleTableEntries, planes.scale_table.size()));
  } else {
    CDNA_TRY(check_size("group scales", count, planes.group_factors.size()));
  }
  if (planes.group_offsets.empty()) return {};
  return check_size("group offsets", count, planes.group_offsets.size());
}

Result<void> check_low_rank(const EncodedPlanes& planes, const MatrixView& matrix) {
  const std::size_t rank = planes.low_rank_factors.size();
  CDNA_CHECK(rank <= kLowRankMax, Code::bad_argument, "E7",
             "a matrix of rank " + std::to_string(rank) + ": it is 1 to " + std::to_string(kLowRankMax));
  CDNA_CHECK(u128{rank} * matrix.cols <= kWholeEntriesMax, Code::bad_argument, "E7",
             "the right side of the matrix of low rank has over 2^26 entries");
  CDNA_TRY(check_size("entries of low_rank_left", u128{matrix.rows} * rank, planes.low_rank_left.size()));
  return check_size("entries of low_rank_right", u128{rank} * matrix.cols, planes.low_rank_right.size());
}

Result<void> check_outliers(const EncodedPlanes& planes, DType dtype) {
  CDNA_CHECK(is_float(dtype), Code::bad_argument, "E2", "outliers are F16, BF16, F32 or F64");
  return check_size("bytes of outlier values", u128{planes.outlier_positions.size()} * (bits_of(dtype) / 8),
                    planes.outlier_values.size());
}

Result<void> check_sizes(const EncodedPlanes& planes, DType dtype, const MatrixView& matrix) {
  CDNA_TRY(check_codes(planes, matrix));
  if (!planes.row_scales.empty()) CDNA_TRY(check_size("row scales", matrix.rows, planes.row_scales.size()));
  CDNA_TRY(check_groups(planes, matrix));
  CDNA_TRY(check_low_rank(planes, matrix));
  if (!planes.column_scales.empty()) CDNA_TRY(check_size("column scales", matrix.cols, planes.column_scales.size()));
  return check_outliers(planes, outlier_dtype_of(planes, dtype));
}

Result<void> check_finite(const char* what, std::span<const float> values) {
  const auto found = std::find_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
  if (found == values.end()) return {};
  return wrong("D1", std::string(what) + " " + std::to_string(found - values.begin()) + " is not finite");
}

Result<void> check_codebook(std::span<const float> entries, bool ascends) {
  CDNA_TRY(check_finite("codebook entry", entries));
  if (!ascends) return {};
  const auto falls = std::adjacent_find(entries.begin(), entries.end(), [](float a, float b) { return a > b; });
  if (falls == entries.end()) return {};
  return wrong("E3", "codebook entry " + std::to_string(falls - entries.begin() + 1) + " is less than the one before");
}

Result<void> check_column_scales(std::span<const float> scales) {
  CDNA_TRY(check_finite("column scale", scales));
  const auto zero = std::find(scales.begin(), scales.end(), 0.0F);
  if (zero == scales.end()) return {};
  return wrong("D1", "column scale " + std::to_string(zero - scales.begin()) + " is 0");
}

// Scales, offsets and the matrix of low rank.
Result<void> check_factors(const EncodedPlanes& planes) {
  CDNA_TRY(check_finite("row scale", planes.row_scales));
  CDNA_TRY(check_finite("entry of the scale table", planes.scale_table));
  CDNA_TRY(check_finite("group scale", planes.group_factors));
  CDNA_TRY(check_finite("group offset", planes.group_offsets));
  CDNA_TRY(check_finite("entry of low_rank_left", planes.low_rank_left));
  CDNA_TRY(check_finite("entry of low_rank_factors", planes.low_rank_factors));
  CDNA_TRY(check_finite("entry of low_rank_right", planes.low_rank_right));
  return check_column_scales(planes.column_scales);
}

Result<void> check_padding(const EncodedPlanes& planes, const MatrixView& matrix) {
  const auto used_bits = static_cast<unsigned>(matrix.cols / planes.vector * planes.bits % 8);
  if (used_bits == 0) return {};
  const std::uint64_t row_bytes = planes.codes.size() / matrix.rows;
  for (std::uint64_t row = 0; row < matrix.rows; ++row) {
    const auto last = std::to_integer<unsigned>(planes.codes[(row + 1) * row_bytes - 1]);
    CDNA_CHECK(last >> used_bits == 0, Code::bad_argument, "E4",
               "the unused bits after the last code of row " + std::to_string(row) + " are not zero");
  }
  return {};
}

Result<void> check_positions(std::span<const std::uint64_t> positions, const MatrixView& matrix) {
  std::uint64_t least = 0;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    CDNA_CHECK(positions[i] >= least && positions[i] < matrix.rows * matrix.cols, Code::bad_argument, "E6",
               "outlier " + std::to_string(i) + " is at position " + std::to_string(positions[i]) +
                   ", out of order or of range");
    least = positions[i] + 1;
  }
  return {};
}

// A sum or bound that the format can hold (I9).
bool is_sum(double value) { return value >= 0 && !std::signbit(value); }

Result<void> check_statistics(const EncodedPlanes& planes, const MatrixView& matrix) {
  if (!planes.statistics) return {};
  const TensorStatistics& known = *planes.statistics;
  CDNA_CHECK(is_sum(known.sum_squares) && is_sum(known.sum_squared_error) && is_sum(known.max_abs_error),
             Code::bad_argument, "I9", "a sum or bound of the statistics is negative or NaN");
  CDNA_CHECK(known.outlier_count == planes.outlier_positions.size(), Code::bad_argument, "D4",
             "the statistics count " + std::to_string(known.outlier_count) + " outliers of " +
                 std::to_string(planes.outlier_positions.size()));
  CDNA_CHECK(!std::isinf(known.excess_kurtosis) && !std::isinf(known.code_entropy_bits), Code::bad_argument, "D4",
             "the statistics' kurtosis or entropy is infinite");
  if (std::isnan(known.code_entropy_bits)) return {};
  CodeHistogram codes(planes.bits);
  codes.add(planes.codes, matrix.rows, matrix.cols / planes.vector);
  CDNA_CHECK(std::abs(codes.entropy_bits() - known.code_entropy_bits) <= kEntropyTolerance, Code::bad_argument, "D4",
             "the statistics do not have the entropy of the codes, " + std::to_string(codes.entropy_bits()));
  return {};
}

}  // namespace

Result<void> check_encoded_planes(const EncodedPlanes& planes, DType dtype, const MatrixView& matrix) {
  CDNA_TRY(check_sizes(planes, dtype, matrix));
  CDNA_TRY(check_codebook(planes.codebook, planes.vector == 1));
  CDNA_TRY(check_factors(planes));
  CDNA_TRY(check_padding(planes, matrix));
  CDNA_TRY(check_positions(planes.outlier_positions, matrix));
  return check_statistics(planes, matrix);
}

bool are_halves(std::span<const float> entries) {
  return std::all_of(entries.begin(), entries.end(), [](float entry) {
    return std::bit_cast<std::uint32_t>(f32_of_f16(f16_of_f32(entry))) == std::bit_cast<std::uint32_t>(entry);
  });
}

}  // namespace cdna
