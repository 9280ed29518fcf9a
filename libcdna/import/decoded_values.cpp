// Decodes the rows that a piece touches, and rounds them.
#include "libcdna/import/decoded_values.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <vector>

#include "cdna/encode.hpp"
#include "libcdna/format/float_bits.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kStepElements = std::uint64_t{1} << 18;

template <class T, class Round>
void round_each(std::span<const float> values, std::byte* out, const Round& round) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const T rounded = round(values[i]);
    std::memcpy(out + i * sizeof rounded, &rounded, sizeof rounded);
  }
}

void round_to(DType dtype, std::span<const float> values, std::byte* out) {
  if (dtype == DType::f32) {
    std::memcpy(out, values.data(), values.size_bytes());
  } else if (dtype == DType::f64) {
    round_each<double>(values, out, [](float value) { return static_cast<double>(value); });
  } else {
    assert(dtype == DType::f16 || dtype == DType::bf16);
    round_each<std::uint16_t>(values, out, dtype == DType::f16 ? f16_of_f32 : bf16_of_f32);
  }
}

}  // namespace

void read_decoded(const EncodedPlanes& planes, DType dtype, std::uint64_t cols, std::uint64_t offset,
                  std::span<std::byte> out) {
  if (out.empty()) return;
  const std::uint64_t row_bytes = cols * (bits_of(dtype) / 8);
  const std::uint64_t step = std::max<std::uint64_t>(1, kStepElements / cols);
  const std::uint64_t last_row = (offset + out.size() - 1) / row_bytes;
  std::vector<float> values;
  std::vector<std::byte> bytes;
  for (std::uint64_t row = offset / row_bytes; row <= last_row; row += step) {
    const std::uint64_t rows = std::min(step, last_row - row + 1);
    values.resize(rows * cols);
    bytes.resize(rows * row_bytes);
    decode(planes, dtype, cols, row, values);
    round_to(dtype, values, bytes.data());
    const std::uint64_t begin = std::max(offset, row * row_bytes);
    const std::uint64_t end = std::min(offset + out.size(), (row + rows) * row_bytes);
    std::memcpy(out.data() + (begin - offset), bytes.data() + (begin - row * row_bytes), end - begin);
  }
}

Result<HeldPlanes> LastPlanes::get(std::size_t tensor, const Load& load) const {
  const std::lock_guard lock(mutex_);
  if (tensor_ == tensor) return planes_;
  tensor_.reset();
  planes_ = {};  // Two at once could be twice the memory.
  planes_ = CDNA_TRY(load(tensor));
  tensor_ = tensor;
  return planes_;
}

}  // namespace cdna
