// The planes of spec/format.md, 13.1 to 13.3, and how they lie in a packet.
#include "libcdna/convert/item_overhead.hpp"

#include <bit>
#include <string_view>
#include <vector>

#include "cdna/writer.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kAlignment = 64;
constexpr std::uint64_t kLargeAlignment = 4096;  // Of planes from here on:
constexpr std::uint64_t kLargePlaneBytes = 256 * kLargeAlignment;
constexpr std::uint64_t kFrameBytes = 64;  // Of a record.
constexpr std::uint64_t kItemBytes = 160;
constexpr std::uint64_t kPlaneBytes = 48;
constexpr std::uint64_t kDimBytes = 8;
constexpr std::uint64_t kOrderBytes = 4;
constexpr std::uint64_t kIndexEntryBytes = 64;
constexpr std::uint64_t kScaleTableBytes = 256 * 4;
constexpr std::uint64_t kSegmentsBytes = 32 * 2;
constexpr std::uint64_t kAffineBytes = 2 * 2;
constexpr std::uint64_t kStatisticsBytes = 3 * 8;
constexpr std::uint64_t kMeasuredWhole = std::uint64_t{1} << 20;  // Elements; larger tensors in samples.
constexpr std::string_view kExact = "cdna.exact";
constexpr std::string_view kCodebook = "cdna.codebook";

std::uint64_t padding_of(std::uint64_t bytes) { return (kAlignment - bytes % kAlignment) % kAlignment; }

// Record and footer of an item, which have the same entries.
std::uint64_t entries_of(const ModelTensor& tensor, std::uint64_t rank, std::uint64_t planes, std::string_view type) {
  const std::uint64_t entry = kItemBytes + kDimBytes * rank + kPlaneBytes * planes + tensor.name.size() + type.size();
  const std::uint64_t record = kFrameBytes + entry;
  return record + padding_of(record) + entry + kOrderBytes;
}

struct Matrix {
  std::uint64_t rows = 1;
  std::uint64_t cols = 1;
};

Matrix matrix_of(const ModelTensor& tensor) {
  const std::uint8_t row_dims = default_row_dims(tensor.dtype, tensor.shape);
  Matrix matrix;
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) (i < row_dims ? matrix.rows : matrix.cols) *= tensor.shape[i];
  return matrix;
}

// Decoded bytes of all planes but the outliers, the codes first.
std::vector<std::uint64_t> planes_of(const Matrix& matrix, const CodebookOptions& options) {
  const auto bits = static_cast<unsigned>(std::bit_width(options.entries - 1));
  std::vector<std::uint64_t> planes{matrix.rows * ((matrix.cols * bits + 7) / 8), std::uint64_t{2} << bits,
                                    4 * matrix.rows};
  if (options.group != 0) {
    planes.push_back(matrix.rows * ((matrix.cols + options.group - 1) / options.group));
    planes.push_back(kScaleTableBytes);
  }
  if (options.codebook_class == CodebookClass::pwl16) planes.push_back(kSegmentsBytes);
  if (options.codebook_class == CodebookClass::affine) planes.push_back(kAffineBytes);
  planes.push_back(kStatisticsBytes);
  return planes;
}

// Before a plane, besides the padding to 64 bytes behind the one before it.
std::uint64_t large_padding_of(std::uint64_t decoded_bytes) {
  return decoded_bytes < kLargePlaneBytes ? 0 : kLargeAlignment - kAlignment;
}

// Behind one plane whose length follows from that of all others. (The index is of whole 64 bytes.)
std::uint64_t padding_behind_last(bool is_measured_whole, std::uint64_t other_bytes, std::uint64_t stored_bytes) {
  return is_measured_whole && stored_bytes >= other_bytes ? padding_of(stored_bytes - other_bytes) : kAlignment - 1;
}

}  // namespace

std::uint64_t overhead_of(const ModelTensor& tensor, const Preset& preset, Codec codec, std::uint64_t stored_bytes) {
  const Matrix matrix = matrix_of(tensor);
  const bool whole = matrix.rows == 0 || matrix.cols <= kMeasuredWhole / matrix.rows;
  const std::uint64_t rank = tensor.shape.size();
  if (preset.method != Preset::Method::codebook) {
    return entries_of(tensor, rank, 1, kExact) + large_padding_of(tensor.size_bytes) +
           padding_behind_last(whole, 0, stored_bytes);
  }
  const std::vector<std::uint64_t> planes = planes_of(matrix, preset.codebook);
  const bool raw = codec == Codec::raw;
  std::uint64_t bytes = 0;  // Whose length is known.
  std::uint64_t padding = 0;
  for (std::size_t i = 0; i < planes.size(); ++i) {
    padding += large_padding_of(planes[i]);
    if (i == 0 && !raw) continue;
    bytes += planes[i];
    padding += padding_of(planes[i]);
  }
  // Without outliers their plane is left out. Where codes have more than one block this takes them to be there.
  const bool without_outliers = raw && whole && stored_bytes == bytes + kIndexEntryBytes * planes.size();
  if (without_outliers) return entries_of(tensor, rank, planes.size(), kCodebook) + padding;
  padding += padding_behind_last(whole && raw, bytes, stored_bytes);
  if (!raw) padding += kAlignment - 1;
  return entries_of(tensor, rank, planes.size() + 1, kCodebook) + padding;
}

std::uint64_t overhead_of_alias(const ModelTensor& tensor) { return entries_of(tensor, 1, 0, {}); }

}  // namespace cdna
