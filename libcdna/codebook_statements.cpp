// Rules D3 and D4.
#include "libcdna/codebook_statements.hpp"

#include <cmath>
#include <string>

#include "cdna/dtype.hpp"
#include "libcdna/format/float_bits.hpp"
#include "libcdna/plane_reader.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::size_t kStatisticsKnown = 3;
constexpr std::uint32_t kSegmentBits = 4;  // pwl has 16 segments.

bool states_codebook(const wire::Plane& plane) { return plane.role() == kPwl || plane.role() == kAffine; }

// What all planes of section 13.3 have in common.
bool has_shape(const wire::Plane& plane, DType dtype, std::uint64_t least_entries, std::uint64_t most_entries) {
  return static_cast<DType>(plane.dtype()) == dtype && plane.bits() == bits_of(dtype) && plane.scope() == kWhole &&
         plane.layout() == kContiguous && plane.group() == 0 && plane.vector() == 1 &&
         plane.row_entries() >= least_entries && plane.row_entries() <= most_entries;
}

Result<void> check_shape(const wire::Plane& plane) {
  bool right = false;
  if (plane.role() == kPwl) right = has_shape(plane, DType::f16, 32, 32);
  if (plane.role() == kAffine) right = has_shape(plane, DType::f16, 2, 2);
  if (plane.role() == kStatistics) right = has_shape(plane, DType::f64, kStatisticsKnown, ~std::uint64_t{0});
  CDNA_CHECK(right, Code::malformed, states_codebook(plane) ? "D3" : "D4",
             "the plane is not one of role " + std::to_string(plane.role() & ~kIgnorableRole));
  return {};
}

double half_at(std::span<const std::byte> entries, std::size_t index) {
  return f32_of_f16(load<std::uint16_t>(entries.subspan(2 * index)));
}

}  // namespace

CodebookStatements::CodebookStatements(const ItemView& view) : view_(view) {
  for (const wire::Plane& plane : view.planes) {
    codebook_stated_ = codebook_stated_ || states_codebook(plane);
    if (plane.role() == kStatistics) codes_.emplace(view.planes[0].bits());
  }
}

void CodebookStatements::add(const wire::Plane& plane, std::uint64_t block, std::span<const std::byte> values) {
  if (plane.role() == kCodes && codes_) {
    const BlockPlace place = block_place(plane, view_.matrix(), block);
    codes_->add(values, place.row_count, place.entry_count);
  }
  if (plane.role() == kCodebook && codebook_stated_) codebook_.insert(codebook_.end(), values.begin(), values.end());
  if (plane.role() == kOutliers) outlier_count_ += values.size() * 8 / bits_of(static_cast<DType>(plane.dtype()));
}

Result<void> CodebookStatements::check(const File& file, std::uint32_t item) const {
  for (std::uint32_t number = 0; number < view_.planes.size(); ++number) {
    const wire::Plane& plane = view_.planes[number];
    if (!states_codebook(plane) && plane.role() != kStatistics) continue;
    const auto check_plane = [&]() -> Result<void> {
      CDNA_TRY(check_shape(plane));
      PlaneReader reader = CDNA_TRY(PlaneReader::create(file, item, number, 1));
      const std::span<const std::byte> entries = CDNA_TRY(reader.fetch(0));
      return states_codebook(plane) ? check_codebook(plane, entries) : check_statistics(entries);
    };
    if (auto result = check_plane(); !result) {
      if (result.error().plane >= 0) return result;  // Of the block, located already.
      result.error().plane = static_cast<std::int32_t>(number);
      result.error().offset = plane.offset();
      return file.placed(std::move(result).error(), item);
    }
  }
  return {};
}

Result<void> CodebookStatements::check_codebook(const wire::Plane& plane, std::span<const std::byte> entries) const {
  for (std::size_t i = 0; i < entries.size() / 2; ++i)
    CDNA_CHECK(std::isfinite(half_at(entries, i)), Code::malformed, "D3",
               "entry " + std::to_string(i) + " is not finite");
  CDNA_CHECK(view_.planes[0].vector() == 1, Code::malformed, "D3", "it states a codebook of single elements");
  const std::uint32_t bits = view_.planes[0].bits();
  const bool pwl = plane.role() == kPwl;
  CDNA_CHECK(static_cast<DType>(view_.planes[1].dtype()) == DType::f16, Code::malformed, "D3",
             "it states an F16 codebook, and the codebook is not one");
  CDNA_CHECK(!pwl || bits > kSegmentBits, Code::malformed, "D3", "16 segments need codes of 5 bits or more");
  const std::size_t segment = std::size_t{1} << (pwl ? bits - kSegmentBits : bits);
  for (std::size_t code = 0; code < std::size_t{1} << bits; ++code) {
    const std::size_t h = code / segment;
    const auto l = static_cast<double>(code % segment);
    // Exact below 2^29, and beyond that infinite in any case. A zero is +0.
    const double sum = half_at(entries, 2 * h) + l * half_at(entries, 2 * h + 1) + 0.0;
    CDNA_CHECK(f16_of_f64(sum) == load<std::uint16_t>(std::span(codebook_).subspan(2 * code)), Code::malformed, "D3",
               "entry " + std::to_string(code) + " of the codebook is not what it states");
  }
  return {};
}

Result<void> CodebookStatements::check_statistics(std::span<const std::byte> entries) const {
  double known[kStatisticsKnown];
  for (std::size_t i = 0; i < kStatisticsKnown; ++i) {
    known[i] = load<double>(entries.subspan(8 * i));
    CDNA_CHECK(std::isfinite(known[i]), Code::malformed, "D4", "entry " + std::to_string(i) + " is not finite");
  }
  CDNA_CHECK(known[0] == static_cast<double>(outlier_count_), Code::malformed, "D4",
             "it does not state the number of outliers, " + std::to_string(outlier_count_));
  const double found = codes_->entropy_bits();
  CDNA_CHECK(std::abs(known[2] - found) <= kEntropyTolerance, Code::malformed, "D4",
             "it does not state the entropy of the codes, " + std::to_string(found));
  return {};
}

}  // namespace cdna
