// The tables of sections 13.1 and 13.2 as code.
#include "libcdna/format/encoding_rules.hpp"

#include <bit>
#include <string>

#include "cdna/dtype.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint8_t kKnownCodecs = 0b111;

bool is_optional(const wire::Plane& plane) { return (plane.role() & kIgnorableRole) != 0; }

bool role_is_known(std::string_view encoding, std::uint16_t role) {
  if (encoding == kExactEncoding) return role == kData;
  return (role >= kCodes && role <= kGroupOffset) || (role >= kLowRankLeft && role <= kColumnScale);
}

bool vector_is_known(std::string_view encoding, const wire::Plane& plane) {
  const bool codes = encoding == kCodebookEncoding && plane.role() == kCodes;
  return plane.vector() == 1 || (codes && (plane.vector() == 2 || plane.vector() == 4));
}

Result<void> check_decodable(const wire::Plane& plane) {
  CDNA_CHECK(plane.layout() <= kPacked, Code::unsupported, "U4",
             "layout " + std::to_string(plane.layout()) + " is not known");
  CDNA_CHECK((plane.codecs() & ~kKnownCodecs) == 0, Code::unsupported, "U5", "a codec is not known");
  return {};
}

bool has_entries(const wire::Plane& plane, DType dtype, std::uint32_t bits, PlaneScope scope,
                 std::uint64_t row_entries) {
  return static_cast<DType>(plane.dtype()) == dtype && plane.bits() == bits && plane.scope() == scope &&
         plane.row_entries() == row_entries;
}

bool is_codes(const wire::Plane& plane, const MatrixView& view) {
  return plane.bits() <= 16 && view.cols % plane.vector() == 0 &&
         has_entries(plane, DType::none, plane.bits(), kRows, view.cols / plane.vector()) && plane.group() == 0;
}

bool is_codebook(const wire::Plane& plane, const wire::Plane& codes) {
  const auto dtype = static_cast<DType>(plane.dtype());
  return (dtype == DType::f16 || dtype == DType::f32) && plane.group() == 0 &&
         has_entries(plane, dtype, bits_of(dtype), kWhole, std::uint64_t{codes.vector()} << codes.bits());
}

// A plane of F32 that is not grouped.
bool is_f32(const wire::Plane& plane, PlaneScope scope, u128 row_entries) {
  return has_entries(plane, DType::f32, 32, scope, plane.row_entries()) && plane.row_entries() == row_entries &&
         plane.group() == 0;
}

bool is_group_scale(const wire::Plane& plane, const MatrixView& view) {
  const auto dtype = static_cast<DType>(plane.dtype());
  const std::uint64_t group = plane.group();
  if (group != 16 && group != 32 && group != 64 && group != 128) return false;
  if (dtype != DType::f32 && dtype != DType::f16 && dtype != DType::bf16 && dtype != DType::u8) return false;
  return has_entries(plane, dtype, bits_of(dtype), kRows, (view.cols + group - 1) / group);
}

// Of the scales' shape.
bool is_group_offset(const wire::Plane& plane, const wire::Plane& scale) {
  const auto dtype = static_cast<DType>(plane.dtype());
  return (dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16) && plane.group() == scale.group() &&
         has_entries(plane, dtype, bits_of(dtype), kRows, scale.row_entries());
}

bool is_outliers(const wire::Plane& plane) {
  return is_float(static_cast<DType>(plane.dtype())) && plane.scope() == kPerBlock && plane.group() == 0;
}

// The planes of a tensor by role, or nullptr; `left_over` is the first that has no place in the order of the table.
struct CodebookItem {
  std::size_t left_over = 0;  // Before the planes, which are counted with it.
  const wire::Plane *codes, *codebook, *row_scale, *group_scale, *scale_table, *outliers, *group_offset;
  const wire::Plane *left, *factors, *right, *column_scale;

  explicit CodebookItem(std::span<const wire::Plane> planes)
      : codes(take(planes, kCodes)),
        codebook(take(planes, kCodebook)),
        row_scale(take(planes, kRowScale)),
        group_scale(take(planes, kGroupScale)),
        scale_table(take(planes, kScaleTable)),
        outliers(take(planes, kOutliers)),
        group_offset(take(planes, kGroupOffset)),
        left(take(planes, kLowRankLeft)),
        factors(take(planes, kLowRankFactors)),
        right(take(planes, kLowRankRight)),
        column_scale(take(planes, kColumnScale)) {}

 private:
  const wire::Plane* take(std::span<const wire::Plane> planes, PlaneRole role) {
    const bool here = left_over < planes.size() && planes[left_over].role() == role;
    return here ? &planes[left_over++] : nullptr;
  }
};

bool has_groups(const CodebookItem& item, const MatrixView& matrix) {
  const bool scaled = item.group_scale != nullptr;
  const bool needs_table = scaled && static_cast<DType>(item.group_scale->dtype()) == DType::u8;
  return (!scaled || is_group_scale(*item.group_scale, matrix)) && (item.scale_table != nullptr) == needs_table &&
         (!needs_table || is_f32(*item.scale_table, kWhole, 256)) &&
         (item.group_offset == nullptr || (scaled && is_group_offset(*item.group_offset, *item.group_scale)));
}

bool has_low_rank(const CodebookItem& item, const MatrixView& matrix) {
  if (item.left == nullptr) return item.factors == nullptr && item.right == nullptr;
  const std::uint64_t rank = item.left->row_entries();
  return rank >= 1 && is_f32(*item.left, kRows, rank) && item.left->rows_per_block() != 0 && item.factors != nullptr &&
         is_f32(*item.factors, kWhole, rank) && item.right != nullptr &&
         is_f32(*item.right, kWhole, u128{rank} * matrix.cols);
}

bool is_codebook_item(const ItemView& view) {
  const MatrixView matrix = view.matrix();
  const CodebookItem item(view.planes);
  for (const wire::Plane& plane : view.planes.subspan(item.left_over)) {
    if (!is_optional(plane)) return false;
  }
  return is_float(static_cast<DType>(view.item->dtype())) && item.codes != nullptr && is_codes(*item.codes, matrix) &&
         item.codebook != nullptr && is_codebook(*item.codebook, *item.codes) &&
         (item.row_scale == nullptr || is_f32(*item.row_scale, kRows, 1)) && has_groups(item, matrix) &&
         (item.outliers == nullptr || is_outliers(*item.outliers)) && has_low_rank(item, matrix) &&
         (item.column_scale == nullptr || is_f32(*item.column_scale, kWhole, matrix.cols));
}

// E7. Requires: E2.
Result<void> check_whole_planes(const ItemView& view) {
  for (const wire::Plane& plane : view.planes) {
    const bool left = plane.role() == kLowRankLeft;
    const bool whole = plane.role() == kLowRankRight || plane.role() == kColumnScale;
    CDNA_CHECK(!left || plane.row_entries() <= kLowRankMax, Code::limit, "E7",
               "the matrix that is added has rank " + std::to_string(plane.row_entries()));
    CDNA_CHECK(!whole || plane.row_entries() <= kWholeEntriesMax, Code::limit, "E7",
               "plane role " + std::to_string(plane.role()) + " has over 2^26 entries");
  }
  return {};
}

bool is_exact_item(const ItemView& view) {
  const auto dtype = static_cast<DType>(view.item->dtype());
  const MatrixView matrix = view.matrix();
  const wire::Plane& data = view.planes[0];
  for (std::size_t i = 1; i < view.planes.size(); ++i) {
    if (!is_optional(view.planes[i])) return false;
  }
  const bool whole_bytes = u128{matrix.cols} * bits_of(dtype) % 8 == 0;
  const bool no_error = std::bit_cast<std::uint64_t>(view.item->sum_squares()) == 0 &&
                        std::bit_cast<std::uint64_t>(view.item->sum_squared_error()) == 0 &&
                        std::bit_cast<std::uint32_t>(view.item->max_abs_error()) == 0;
  return data.role() == kData && has_entries(data, dtype, bits_of(dtype), kRows, matrix.cols) && data.group() == 0 &&
         (whole_bytes || matrix.rows <= 1) && no_error;
}

}  // namespace

Result<void> check_supported(const ItemView& view) {
  if (view.item->kind() == kTensor) {
    CDNA_CHECK(view.type == kExactEncoding || view.type == kCodebookEncoding, Code::unsupported, "U1",
               "encoding '" + std::string(view.type) + "' is not known");
    CDNA_CHECK(is_known(static_cast<DType>(view.item->dtype())), Code::unsupported, "U2",
               "dtype " + std::to_string(view.item->dtype()) + " is not known");
  }
  for (const wire::Plane& plane : view.planes) {
    if (is_optional(plane)) continue;
    if (view.item->kind() == kTensor) {
      CDNA_CHECK(role_is_known(view.type, plane.role()), Code::unsupported, "U3",
                 "plane role " + std::to_string(plane.role()) + " is not known");
    }
    CDNA_TRY(check_decodable(plane));
    if (view.item->kind() == kTensor) {
      CDNA_CHECK(vector_is_known(view.type, plane), Code::unsupported, "U6",
                 "entries for " + std::to_string(plane.vector()) + " elements are not known");
    }
  }
  return {};
}

Result<void> check_encoding(const ItemView& view) {
  if (view.type == kExactEncoding) {
    CDNA_CHECK(is_exact_item(view), Code::malformed, "E1", "the planes are not those of cdna.exact");
  } else {
    CDNA_CHECK(is_codebook_item(view), Code::malformed, "E2", "the planes are not those of cdna.codebook");
    CDNA_TRY(check_whole_planes(view));
  }
  return {};
}

bool allows_byte_planes(const ItemView& view) {
  return view.item->kind() == kTensor && view.type == kExactEncoding &&
         is_float(static_cast<DType>(view.item->dtype())) && supported(view);
}

const wire::Plane* find_plane(const ItemView& view, PlaneRole role) {
  for (const wire::Plane& plane : view.planes) {
    if (plane.role() == role) return &plane;
  }
  return nullptr;
}

}  // namespace cdna
