// Decodes the elements that a piece touches, and rounds them.
#include "libcdna/import/decoded_values.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <vector>

#include "cdna/writer.hpp"
#include "libcdna/encode/planes.hpp"
#include "libcdna/format/float_bits.hpp"
#include "libcdna/format/geometry.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kStepElements = std::uint64_t{1} << 18;
constexpr std::uint64_t kCodedColumnsMax = std::uint64_t{1} << 24;  // Of Writer::add_encoded().

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

bool fits_codes(DType dtype, std::span<const std::uint64_t> shape) {
  return matrix_view(shape, default_row_dims(dtype, shape)).cols <= kCodedColumnsMax;
}

void read_decoded(const EncodedPlanes& planes, DType dtype, std::uint64_t cols, std::uint64_t offset,
                  std::span<std::byte> out) {
  const std::uint64_t size = bits_of(dtype) / 8;
  const std::uint64_t end = (offset + out.size() + size - 1) / size;
  std::vector<float> values;
  std::vector<std::byte> bytes;
  for (std::uint64_t at = offset / size; at < end; at += kStepElements) {
    values.resize(std::min(kStepElements, end - at));
    bytes.resize(values.size() * size);
    decode_elements(planes, dtype, cols, at, values);
    round_to(dtype, values, bytes.data());
    const std::uint64_t from = std::max(offset, at * size);
    const std::uint64_t to = std::min(offset + out.size(), at * size + bytes.size());
    std::memcpy(out.data() + (from - offset), bytes.data() + (from - at * size), to - from);
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
