// Takes the planes of cdna.codebook (spec/format.md, 13.2) apart again.
#include "libcdna/convert/hxq_parts.hpp"

#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

// Roles of planes; those with bit 15 are not needed to decode.
enum PlaneRole : std::uint16_t {
  kCodes = 2,
  kCodebook = 3,
  kOutliers = 7,
  kLeft = 14,
  kFactors = 15,
  kRight = 16,
  kColumns = 17
};
constexpr std::uint16_t kOptionalRole = 0x8000;
constexpr std::string_view kWeight = ".weight";

template <class T>
T value_at(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

float f32_of_half(std::uint16_t half) {
  const std::uint32_t sign = std::uint32_t{half} >> 15 << 31;
  const std::uint32_t exponent = half >> 10 & 31U;
  const std::uint32_t fraction = half & 1023U;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000 | fraction << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  const float subnormal = static_cast<float>(fraction) * 0x1p-24F;
  return sign != 0 ? -subnormal : subnormal;
}

float outlier_of(DType dtype, std::span<const std::byte> values, std::size_t number) {
  const std::byte* const at = values.data() + number * (bits_of(dtype) / 8);
  switch (dtype) {
    case DType::f16:
      return f32_of_half(value_at<std::uint16_t>(at));
    case DType::bf16:
      return std::bit_cast<float>(std::uint32_t{value_at<std::uint16_t>(at)} << 16);
    case DType::f64:
      return static_cast<float>(value_at<double>(at));
    default:
      return value_at<float>(at);
  }
}

template <class T>
void append_codes(std::span<const std::byte> row, std::uint32_t bits, std::uint64_t count,
                  std::vector<std::byte>& out) {
  std::uint64_t bit = 0;
  for (std::uint64_t i = 0; i < count; ++i, bit += bits) {
    std::uint32_t window = 0;  // Up to 16 bits at any of 8 positions: three bytes.
    for (std::uint64_t k = 0; k < 3 && bit / 8 + k < row.size(); ++k)
      window |= std::to_integer<std::uint32_t>(row[bit / 8 + k]) << (8 * k);
    const auto code = static_cast<T>(window >> (bit % 8) & ((1U << bits) - 1));
    const auto bytes = std::bit_cast<std::array<std::byte, sizeof(T)>>(code);
    out.insert(out.end(), bytes.begin(), bytes.end());
  }
}

}  // namespace

Result<std::optional<HxqParts>> HxqParts::of(const Tensor& tensor, std::string_view name, std::string& reason) {
  reason.clear();
  if (tensor.type() != "cdna.codebook") return std::optional<HxqParts>();
  if (!name.ends_with(kWeight) || name.size() == kWeight.size()) reason = "its name does not end in .weight";
  if (tensor.shape().size() != 2 || tensor.shape()[0] != tensor.rows()) reason = "it is no matrix";
  HxqParts parts(tensor);
  for (std::uint32_t i = 0; i < tensor.plane_count(); ++i) {
    const PlaneInfo plane = tensor.plane(i);
    if ((plane.role & kOptionalRole) != 0) continue;
    const bool is_f32 = plane.dtype == DType::f32;
    if (plane.role == kCodes) parts.bits_ = plane.bits;
    if (plane.role == kOutliers) parts.outlier_dtype_ = plane.dtype;
    if (plane.role == kLeft && is_f32) parts.left_ = i;
    if (plane.role == kFactors && is_f32) parts.factors_ = i;
    if (plane.role == kRight && is_f32) parts.right_ = i;
    if (plane.role == kColumns && is_f32) parts.column_scales_ = i;
    const bool is_known = plane.role == kCodes || plane.role == kCodebook || plane.role == kOutliers ||
                          (is_f32 && plane.role >= kLeft && plane.role <= kColumns);
    if (!is_known) reason = "HXQ has no scales of rows or groups";
  }
  if (!reason.empty()) return std::optional<HxqParts>();
  CDNA_TRY(parts.plan());
  return std::optional(std::move(parts));
}

Result<void> HxqParts::plan() {
  const std::uint64_t rows = tensor_.rows();
  const std::uint64_t cols = tensor_.cols();
  vector_ = static_cast<std::uint32_t>(CDNA_TRY(tensor_.codebook()).size() >> bits_);
  std::vector<std::uint64_t> codebook{entries()};
  if (vector_ > 1) codebook.push_back(vector_);
  parts_.push_back({".codebook", DType::f32, std::move(codebook)});
  parts_.push_back({".indices", bits_ <= 8 ? DType::u8 : DType::u16, {rows, cols / vector_}});
  std::uint64_t outliers = 0;
  CDNA_TRY(for_each_block([&](const Block& block) -> Result<void> {
    outliers += block.outlier_count;
    return {};
  }));
  if (outliers != 0) {
    parts_.push_back({".sidecar_positions", DType::i64, {outliers}});
    parts_.push_back({".sidecar_values", DType::f32, {outliers}});
  }
  if (left_) {
    const std::uint64_t rank = tensor_.plane(*factors_).row_entries;
    parts_.push_back({".svd_U", DType::f32, {rows, rank}});
    parts_.push_back({".svd_s", DType::f32, {rank}});
    parts_.push_back({".svd_Vt", DType::f32, {rank, cols}});
  }
  if (column_scales_) parts_.push_back({".channel_scales", DType::f32, {cols}});
  return {};
}

Result<void> HxqParts::write(std::size_t part, const PartSink& sink) const {
  const std::string& name = parts_[part].name;
  if (name == ".codebook") return write_codebook(sink);
  if (name == ".indices") return write_indices(sink);
  if (name == ".sidecar_positions") return write_positions(sink);
  if (name == ".sidecar_values") return write_values(sink);
  if (name == ".svd_U") return write_left(sink);
  if (name == ".svd_s") return write_plane(*factors_, sink);
  return write_plane(name == ".svd_Vt" ? *right_ : *column_scales_, sink);
}

Result<void> HxqParts::for_each_block(const std::function<Result<void>(const Block&)>& use) const {
  BlockRange blocks = CDNA_TRY(tensor_.blocks());
  for (const Result<Block>& block : blocks) {
    if (!block) return block.error();
    CDNA_TRY(use(*block));
  }
  return {};
}

Result<void> HxqParts::write_codebook(const PartSink& sink) const {
  return sink(std::as_bytes(CDNA_TRY(tensor_.codebook())));
}

// The pieces of a cut row come one after the other, and all but the last have whole bytes.
Result<void> HxqParts::write_indices(const PartSink& sink) const {
  std::vector<std::byte> out;
  return for_each_block([&](const Block& block) -> Result<void> {
    out.clear();
    const std::uint64_t codes_per_row = block.entry_count / vector_;
    const std::uint64_t row_bytes = (codes_per_row * bits_ + 7) / 8;
    for (std::uint64_t row = 0; row < block.row_count; ++row) {
      const auto codes = block.data.subspan(row * row_bytes, row_bytes);
      if (bits_ <= 8) append_codes<std::uint8_t>(codes, bits_, codes_per_row, out);
      if (bits_ > 8) append_codes<std::uint16_t>(codes, bits_, codes_per_row, out);
    }
    return sink(out);
  });
}

Result<void> HxqParts::write_positions(const PartSink& sink) const {
  return for_each_block([&](const Block& block) -> Result<void> {
    std::vector<std::uint64_t> positions(block.outlier_count);
    for (std::size_t i = 0; i < positions.size(); ++i) {
      const std::uint32_t position = value_at<std::uint32_t>(block.outlier_positions.data() + i * 4);
      const std::uint64_t row = block.row_begin + position / block.entry_count;
      positions[i] = row * tensor_.cols() + block.entry_begin + position % block.entry_count;
    }
    return sink(std::as_bytes(std::span(positions)));
  });
}

Result<void> HxqParts::write_values(const PartSink& sink) const {
  return for_each_block([&](const Block& block) -> Result<void> {
    std::vector<float> values(block.outlier_count);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = outlier_of(outlier_dtype_, block.outlier_values, i);
    return sink(std::as_bytes(std::span(values)));
  });
}

// Block by block: it may be far larger than the file. All pieces of a cut row come with that row's.
Result<void> HxqParts::write_left(const PartSink& sink) const {
  return for_each_block([&](const Block& block) -> Result<void> {
    return block.entry_begin == 0 ? sink(std::as_bytes(block.low_rank_left)) : Result<void>();
  });
}

// At most 2^26 entries (E7), as a decoder holds them.
Result<void> HxqParts::write_plane(std::uint32_t plane, const PartSink& sink) const {
  const PlaneInfo info = tensor_.plane(plane);
  std::vector<std::byte> bytes(info.rows * info.row_entries * sizeof(float));
  CDNA_TRY(tensor_.read_plane(plane, bytes));
  return sink(bytes);
}

}  // namespace cdna
