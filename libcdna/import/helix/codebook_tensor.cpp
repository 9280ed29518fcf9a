// Checks values and hands them over as planes.
#include "libcdna/import/helix/codebook_tensor.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "libcdna/import/helix/sorted_codebook.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

static_assert(std::endian::native == std::endian::little);

template <class T>
std::vector<T> elements_of(std::span<const std::byte> bytes) {
  std::vector<T> out(bytes.size() / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), bytes.data(), out.size() * sizeof(T));
  return out;
}

Result<void> check_finite(const char* what, std::span<const float> values) {
  const auto found = std::find_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
  CDNA_CHECK(found == values.end(), Code::malformed, "",
             std::string(what) + " " + std::to_string(found - values.begin()) + " is not finite");
  return {};
}

Result<void> check_channel_scales(std::span<const float> scales) {
  CDNA_TRY(check_finite("channel scale", scales));
  const auto zero = std::find(scales.begin(), scales.end(), 0.0F);
  CDNA_CHECK(zero == scales.end(), Code::malformed, "",
             "channel scale " + std::to_string(zero - scales.begin()) + " is 0, by which weights would be divided");
  return {};
}

struct Storage {
  CodebookTensor tensor;
  CodedMatrix codes;
};

}  // namespace

std::size_t HelixSidecar::infinite_count() const {
  if (dtype == DType::f16) {
    const auto halves = u16_of(values);
    return static_cast<std::size_t>(
        std::count_if(halves.begin(), halves.end(), [](std::uint16_t half) { return (half & 0x7C00) == 0x7C00; }));
  }
  const auto floats = floats_of(values);
  return static_cast<std::size_t>(
      std::count_if(floats.begin(), floats.end(), [](float value) { return !std::isfinite(value); }));
}

Result<HelixSidecar> make_sidecar(std::span<const std::byte> positions, std::span<const std::byte> values, DType dtype,
                                  std::uint64_t elements) {
  CDNA_CHECK(dtype == DType::f16 || dtype == DType::f32, Code::unsupported, "",
             "sidecar values of dtype " + std::string(name_of(dtype)) + ": F16 or F32 are known");
  HelixSidecar sidecar;
  sidecar.dtype = dtype;
  sidecar.positions = elements_of<std::uint64_t>(positions);
  const std::uint64_t count = values.size() / (bits_of(dtype) / 8);
  CDNA_CHECK(count == sidecar.positions.size(), Code::malformed, "",
             "the sidecar has " + std::to_string(sidecar.positions.size()) + " positions and " + std::to_string(count) +
                 " values");
  for (std::size_t i = 0; i < sidecar.positions.size(); ++i) {
    const std::uint64_t position = sidecar.positions[i];
    const std::string place = "sidecar position " + std::to_string(i);
    CDNA_CHECK(position < elements, Code::malformed, "",
               place + " is " + std::to_string(static_cast<std::int64_t>(position)) + ", out of the range of " +
                   std::to_string(elements) + " elements");
    CDNA_CHECK(i == 0 || position != sidecar.positions[i - 1], Code::malformed, "",
               place + " is the one before again, " + std::to_string(position));
    CDNA_CHECK(i == 0 || position > sidecar.positions[i - 1], Code::malformed, "",
               place + " is " + std::to_string(position) + ", less than the one before");
  }
  sidecar.values.assign(values.begin(), values.end());
  return sidecar;
}

Result<HeldPlanes> planes_of(CodebookTensor tensor) {
  CDNA_TRY(check_finite("element of svd_U", tensor.svd_u));
  CDNA_TRY(check_finite("element of svd_s", tensor.svd_s));
  CDNA_TRY(check_finite("element of svd_Vt", tensor.svd_vt));
  CDNA_TRY(check_channel_scales(tensor.channel_scales));
  auto storage = std::make_shared<Storage>();
  auto codes = tensor.indices16.empty() ? sort_codebook(tensor.codebook, tensor.vector, tensor.indices8, tensor.rows)
                                        : sort_codebook(tensor.codebook, tensor.vector, tensor.indices16, tensor.rows);
  if (!codes) return std::move(codes).error();
  storage->codes = *std::move(codes);
  tensor.indices8 = {};
  tensor.indices16 = {};
  storage->tensor = std::move(tensor);
  HeldPlanes held;
  EncodedPlanes& planes = held.planes;
  planes.bits = storage->codes.bits;
  planes.vector = storage->codes.vector;
  planes.codebook = storage->codes.codebook;
  planes.codes = storage->codes.codes;
  planes.outlier_dtype = storage->tensor.sidecar.dtype;
  planes.outlier_values = storage->tensor.sidecar.values;
  planes.outlier_positions = storage->tensor.sidecar.positions;
  planes.low_rank_left = storage->tensor.svd_u;
  planes.low_rank_factors = storage->tensor.svd_s;
  planes.low_rank_right = storage->tensor.svd_vt;
  planes.column_scales = storage->tensor.channel_scales;
  held.storage = std::move(storage);
  return held;
}

std::vector<float> floats_of(std::span<const std::byte> bytes) { return elements_of<float>(bytes); }
std::vector<std::uint16_t> u16_of(std::span<const std::byte> bytes) { return elements_of<std::uint16_t>(bytes); }

std::vector<std::uint16_t> unpack_12bit(std::span<const std::byte> bytes) {
  std::vector<std::uint16_t> out;
  out.reserve(bytes.size() / 3 * 2);
  for (std::size_t i = 0; i + 2 < bytes.size(); i += 3) {
    const auto low = std::to_integer<unsigned>(bytes[i]);
    const auto middle = std::to_integer<unsigned>(bytes[i + 1]);
    const auto high = std::to_integer<unsigned>(bytes[i + 2]);
    out.push_back(static_cast<std::uint16_t>(low | (middle & 15) << 8));
    out.push_back(static_cast<std::uint16_t>(middle >> 4 | high << 4));
  }
  return out;
}

std::string shape_text(std::span<const std::uint64_t> shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) out += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return out + "]";
}

}  // namespace cdna
