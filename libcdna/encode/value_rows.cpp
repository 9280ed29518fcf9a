// Rows in pieces of 4096 elements, which stay in the first-level cache.
#include "libcdna/encode/value_rows.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "libcdna/cpu.hpp"
#include "libcdna/format/float_bits.hpp"

namespace cdna {
namespace {

constexpr std::size_t kPiece = 4096;
constexpr std::uint32_t kInfinityBits = 0x7F800000U;

template <class T>
T load_at(std::span<const std::byte> bytes, std::uint64_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// Calls body(piece, count of values that were not finite and are now 0) for the pieces of a row.
template <class Body>
void for_pieces(DType dtype, std::span<const std::byte> row, std::uint64_t cols, const Body& body) {
  std::array<float, kPiece> values;
  for (std::uint64_t first = 0; first < cols; first += kPiece) {
    const std::span<float> piece = std::span(values).first(std::min<std::uint64_t>(kPiece, cols - first));
    widen(dtype, row, first, piece);
    body(piece, clear_nonfinite(piece));
  }
}

}  // namespace

const cdna_codebook_kernels& codebook_kernels() {
#if defined(__x86_64__)
  static const cdna_codebook_kernels* const kernels[] = {cdna_codebook_kernels_baseline(), cdna_codebook_kernels_avx2(),
                                                         cdna_codebook_kernels_avx512()};
  return *kernels[static_cast<std::size_t>(isa())];
#else
  return *cdna_codebook_kernels_baseline();
#endif
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

void widen(DType dtype, std::span<const std::byte> bytes, std::uint64_t first, std::span<float> out) {
  const std::byte* const from = bytes.data() + first * bits_of(dtype) / 8;
  switch (dtype) {
    case DType::f16:
      return codebook_kernels().widen_f16(reinterpret_cast<const std::uint16_t*>(from), out.size(), out.data());
    case DType::bf16:
      return codebook_kernels().widen_bf16(reinterpret_cast<const std::uint16_t*>(from), out.size(), out.data());
    case DType::f64:
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(load_at<double>(bytes, first + i));
      return;
    default:
      std::memcpy(out.data(), from, out.size_bytes());
  }
}

std::size_t clear_nonfinite(std::span<float> values) {
  if (codebook_kernels().max_magnitude(values.data(), values.size()) < kInfinityBits) return 0;
  std::size_t cleared = 0;
  for (float& value : values) {
    if (std::isfinite(value)) continue;
    value = 0;
    ++cleared;
  }
  return cleared;
}

std::optional<std::uint64_t> find_nonfinite(DType dtype, std::span<const std::byte> bytes, std::uint64_t count) {
  std::array<float, kPiece> values;
  for (std::uint64_t first = 0; first < count; first += kPiece) {
    const std::span<float> piece = std::span(values).first(std::min<std::uint64_t>(kPiece, count - first));
    widen(dtype, bytes, first, piece);
    if (codebook_kernels().max_magnitude(piece.data(), piece.size()) < kInfinityBits) continue;
    for (std::size_t i = 0; i < piece.size(); ++i) {
      if (!std::isfinite(piece[i])) return first + i;
    }
  }
  return std::nullopt;
}

float rms_of(DType dtype, std::span<const std::byte> row, std::uint64_t cols) {
  std::array<double, 8> lanes{};
  std::uint64_t count = cols;
  for_pieces(dtype, row, cols, [&](std::span<const float> piece, std::size_t cleared) {
    codebook_kernels().add_squares(piece.data(), piece.size(), lanes.data());
    count -= cleared;
  });
  const double sum = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
  return count == 0 ? 0 : static_cast<float>(std::sqrt(sum / static_cast<double>(count)));
}

float magnitude_of(DType dtype, std::span<const std::byte> row, std::uint64_t cols, float rms, float outlier_bound) {
  const cdna_codebook_kernels& kernels = codebook_kernels();
  std::array<float, kPiece> scaled;
  std::array<std::uint32_t, kPiece> places;
  std::uint32_t most = 0;
  for_pieces(dtype, row, cols, [&](std::span<float> piece, std::size_t) {
    if (std::isfinite(outlier_bound) && rms > 0) {
      kernels.divide(piece.data(), piece.size(), rms, scaled.data());
      const std::size_t found = kernels.find_large(scaled.data(), piece.size(), outlier_bound, places.data());
      for (std::size_t i = 0; i < found; ++i) piece[places[i]] = 0;
    }
    most = std::max(most, kernels.max_magnitude(piece.data(), piece.size()));
  });
  return std::bit_cast<float>(most);
}

}  // namespace cdna
