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
  return encoding == kExactEncoding ? role == kData : role >= kCodes && role <= kOutliers;
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
  return plane.bits() <= 16 && has_entries(plane, DType::none, plane.bits(), kRows, view.cols) && plane.group() == 0;
}

bool is_codebook(const wire::Plane& plane, const wire::Plane& codes) {
  const auto dtype = static_cast<DType>(plane.dtype());
  return (dtype == DType::f16 || dtype == DType::f32) && plane.group() == 0 &&
         has_entries(plane, dtype, bits_of(dtype), kWhole, std::uint64_t{1} << codes.bits());
}

bool is_row_scale(const wire::Plane& plane) {
  return has_entries(plane, DType::f32, 32, kRows, 1) && plane.group() == 0;
}

bool is_group_scale(const wire::Plane& plane, const MatrixView& view) {
  const auto dtype = static_cast<DType>(plane.dtype());
  const std::uint64_t group = plane.group();
  if (group != 32 && group != 64 && group != 128) return false;
  if (dtype != DType::f32 && dtype != DType::f16 && dtype != DType::bf16 && dtype != DType::u8) return false;
  return has_entries(plane, dtype, bits_of(dtype), kRows, (view.cols + group - 1) / group);
}

bool is_scale_table(const wire::Plane& plane) {
  return has_entries(plane, DType::f32, 32, kWhole, 256) && plane.group() == 0;
}

bool is_outliers(const wire::Plane& plane) {
  return is_float(static_cast<DType>(plane.dtype())) && plane.scope() == kPerBlock && plane.group() == 0;
}

bool is_codebook_item(const ItemView& view) {
  const MatrixView matrix = view.matrix();
  std::size_t next = 0;
  const auto take = [&view, &next](PlaneRole role) -> const wire::Plane* {
    const bool here = next < view.planes.size() && view.planes[next].role() == role;
    return here ? &view.planes[next++] : nullptr;
  };
  const wire::Plane* const codes = take(kCodes);
  const wire::Plane* const codebook = take(kCodebook);
  const wire::Plane* const row_scale = take(kRowScale);
  const wire::Plane* const group_scale = take(kGroupScale);
  const wire::Plane* const scale_table = take(kScaleTable);
  const wire::Plane* const outliers = take(kOutliers);
  for (; next < view.planes.size(); ++next) {
    if (!is_optional(view.planes[next])) return false;
  }
  const bool needs_table = group_scale != nullptr && static_cast<DType>(group_scale->dtype()) == DType::u8;
  return is_float(static_cast<DType>(view.item->dtype())) && codes != nullptr && is_codes(*codes, matrix) &&
         codebook != nullptr && is_codebook(*codebook, *codes) && (row_scale == nullptr || is_row_scale(*row_scale)) &&
         (group_scale == nullptr || is_group_scale(*group_scale, matrix)) && (scale_table != nullptr) == needs_table &&
         (scale_table == nullptr || is_scale_table(*scale_table)) && (outliers == nullptr || is_outliers(*outliers));
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
      CDNA_CHECK(plane.vector() == 1, Code::unsupported, "U6", "codes of several elements are not known");
    }
  }
  return {};
}

Result<void> check_encoding(const ItemView& view) {
  if (view.type == kExactEncoding) {
    CDNA_CHECK(is_exact_item(view), Code::malformed, "E1", "the planes are not those of cdna.exact");
  } else {
    CDNA_CHECK(is_codebook_item(view), Code::malformed, "E2", "the planes are not those of cdna.codebook");
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
