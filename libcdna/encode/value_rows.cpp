// Rows in pieces of 4096 elements, which stay in the first-level cache.
#include "libcdna/encode/value_rows.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "libcdna/cpu.hpp"
#include "libcdna/format/float_bits.hpp"

namespace cdna {
namespace {

constexpr std::size_t kPiece = 4096;
constexpr std::uint32_t kInfinityBits = 0x7F800000U;

std::size_t piece_count(std::uint64_t all, std::uint64_t first) {
  return static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, all - first));
}

template <class T>
T load_at(std::span<const std::byte> bytes, std::uint64_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// out[i] = element first + i.
void widen(DType dtype, std::span<const std::byte> bytes, std::uint64_t first, std::span<float> out) {
  const std::byte* const from = bytes.data() + first * bits_of(dtype) / 8;
  switch (dtype) {
    case DType::f16:
      return codebook_kernels().widen_f16(from, out.size(), out.data());
    case DType::bf16:
      return codebook_kernels().widen_bf16(from, out.size(), out.data());
    case DType::f64:
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(load_at<double>(bytes, first + i));
      return;
    default:
      std::memcpy(out.data(), from, out.size_bytes());
  }
}

std::size_t count_nonfinite(std::span<const float> values) {
  if (all_finite(values)) return 0;
  return static_cast<std::size_t>(
      std::count_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); }));
}

}  // namespace

const cdna_codebook_kernels& codebook_kernels() {
#if defined(__x86_64__)
  if (isa() >= Isa::avx512) return *cdna_codebook_kernels_avx512();
  if (isa() == Isa::avx2) return *cdna_codebook_kernels_avx2();
#endif
  return *cdna_codebook_kernels_baseline();
}

double value_at(DType dtype, std::span<const std::byte> bytes, std::uint64_t index) {
  switch (dtype) {
    case DType::f16:
      return static_cast<double>(f32_of_f16(load_at<std::uint16_t>(bytes, index)));
    case DType::bf16:
      return static_cast<double>(f32_of_bf16(load_at<std::uint16_t>(bytes, index)));
    case DType::f64:
      return load_at<double>(bytes, index);
    default:
      return static_cast<double>(load_at<float>(bytes, index));
  }
}

std::span<const float> values_at(DType dtype, std::span<const std::byte> bytes, std::uint64_t first, std::size_t count,
                                 std::span<float> scratch) {
  const std::byte* const from = bytes.data() + first * sizeof(float);
  if (dtype == DType::f32 && reinterpret_cast<std::uintptr_t>(from) % alignof(float) == 0)
    return {reinterpret_cast<const float*>(from), count};
  widen(dtype, bytes, first, scratch.first(count));
  return scratch.first(count);
}

std::span<const float> finite_values_at(DType dtype, std::span<const std::byte> bytes, std::uint64_t first,
                                        std::size_t count, std::span<float> scratch) {
  const std::span<const float> values = values_at(dtype, bytes, first, count, scratch);
  if (all_finite(values)) return values;
  for (std::size_t i = 0; i < count; ++i) scratch[i] = std::isfinite(values[i]) ? values[i] : 0;
  return scratch.first(count);
}

bool all_finite(std::span<const float> values) {
  return codebook_kernels().max_magnitude(values.data(), values.size()) < kInfinityBits;
}

std::optional<std::uint64_t> find_nonfinite(DType dtype, std::span<const std::byte> bytes, std::uint64_t count) {
  std::array<float, kPiece> scratch;
  for (std::uint64_t first = 0; first < count; first += kPiece) {
    const std::span<const float> piece = values_at(dtype, bytes, first, piece_count(count, first), scratch);
    if (all_finite(piece)) continue;
    const auto found = std::find_if(piece.begin(), piece.end(), [](float value) { return !std::isfinite(value); });
    return first + static_cast<std::uint64_t>(found - piece.begin());
  }
  return std::nullopt;
}

RowSummary summary_of(DType dtype, std::span<const std::byte> row, std::uint64_t cols) {
  std::array<float, kPiece> scratch;
  std::array<double, 8> lanes{};
  RowSummary summary;
  for (std::uint64_t first = 0; first < cols; first += kPiece) {
    const std::size_t count = piece_count(cols, first);
    std::span<const float> piece = values_at(dtype, row, first, count, scratch);
    if (const std::size_t bad = count_nonfinite(piece); bad > 0) {
      summary.nonfinite_count += bad;
      piece = finite_values_at(dtype, row, first, count, scratch);
    }
    codebook_kernels().add_squares(piece.data(), piece.size(), lanes.data());
  }
  const std::uint64_t finite = cols - summary.nonfinite_count;
  if (finite > 0) summary.rms = static_cast<float>(std::sqrt(total_of(lanes) / static_cast<double>(finite)));
  return summary;
}

float magnitude_of(DType dtype, std::span<const std::byte> row, std::uint64_t cols, float rms, float outlier_bound) {
  const cdna_codebook_kernels& kernels = codebook_kernels();
  const bool bounded = std::isfinite(outlier_bound) && rms > 0;
  std::array<float, kPiece> scratch;
  std::array<float, kPiece> scaled;
  std::array<std::uint32_t, kPiece> places;
  std::uint32_t most = 0;
  for (std::uint64_t first = 0; first < cols; first += kPiece) {
    std::span<const float> piece = finite_values_at(dtype, row, first, piece_count(cols, first), scratch);
    if (bounded) {
      kernels.divide(piece.data(), piece.size(), rms, scaled.data());
      const std::size_t found = kernels.find_large(scaled.data(), piece.size(), outlier_bound, places.data());
      if (found > 0 && piece.data() != scratch.data()) std::copy(piece.begin(), piece.end(), scratch.begin());
      for (std::size_t i = 0; i < found; ++i) scratch[places[i]] = 0;
      if (found > 0) piece = std::span<const float>(scratch).first(piece.size());
    }
    most = std::max(most, kernels.max_magnitude(piece.data(), piece.size()));
  }
  return std::bit_cast<float>(most);
}

}  // namespace cdna
