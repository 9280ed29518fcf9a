// The largest magnitude of a block becomes 127; all in f32, so that roundings are ggml's.
#include "libcdna/convert/q8_0.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <string>

#include "libcdna/format/float_bits.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint16_t kInfiniteHalf = 0x7C00;

Result<void> quantize_block(std::span<const float> values, std::uint64_t begin, std::byte* out) {
  float largest = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    CDNA_CHECK(std::isfinite(values[i]), Code::bad_argument, "",
               "element " + std::to_string(begin + i) + " is not finite, which Q8_0 cannot say");
    largest = std::max(largest, std::fabs(values[i]));
  }
  const float scale = largest / 127;
  const std::uint16_t half = f16_of_f32(scale);
  CDNA_CHECK(half != kInfiniteHalf, Code::bad_argument, "",
             "elements " + std::to_string(begin) + " to " + std::to_string(begin + values.size() - 1) +
                 " reach magnitudes that are too large for Q8_0");
  std::memcpy(out, &half, 2);
  // Where 1 / scale is infinite the half is 0 already, and all that the codes are multiplied with.
  const float inverse = scale == 0 || std::isinf(1 / scale) ? 0 : 1 / scale;
  for (std::size_t i = 0; i < values.size(); ++i)
    out[2 + i] = static_cast<std::byte>(static_cast<std::int8_t>(std::round(values[i] * inverse)));
  return {};
}

}  // namespace

Result<void> quantize_q8_0(std::span<const float> values, std::uint64_t begin, std::span<std::byte> out) {
  assert(values.size() % kQ8_0Elements == 0 && out.size() == values.size() / kQ8_0Elements * kQ8_0Bytes);
  for (std::size_t i = 0; i < values.size(); i += kQ8_0Elements)
    CDNA_TRY(quantize_block(values.subspan(i, kQ8_0Elements), begin + i, out.data() + i / kQ8_0Elements * kQ8_0Bytes));
  return {};
}

}  // namespace cdna
