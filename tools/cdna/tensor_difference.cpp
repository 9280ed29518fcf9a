// Two streams in step, a few thousand elements at a time.
#include "tools/cdna/tensor_difference.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tools/float_values.hpp"
#include "tools/interrupt.hpp"

namespace cdna::tools {
namespace {

constexpr std::uint64_t kStepElements = 4096;

// A stream and what of its last part has not been used.
class Cursor {
 public:
  Cursor(TensorStream stream, const ByteObserver& seen)
      : stream_(std::move(stream)), seen_(seen), bits_(bits_of(stream_.dtype)) {}

  DType dtype() const { return stream_.dtype; }
  bool exact() const { return stream_.exact; }

  // How many elements are at hand; 0 at the end.
  Result<std::uint64_t> available() {
    if (rest_.empty()) {
      auto part = stream_.bytes->next();
      if (!part) return std::move(part).error();
      rest_ = *part;
      if (seen_) seen_(rest_);
    }
    return rest_.size() * 8 / bits_;
  }

  // Requires: count <= available(). Sub-byte elements are taken in numbers that fill whole bytes, but at the end.
  std::span<const std::byte> take(std::uint64_t count) {
    const std::span<const std::byte> bytes = rest_.first((count * bits_ + 7) / 8);
    rest_ = rest_.subspan(bytes.size());
    return bytes;
  }

 private:
  TensorStream stream_;
  const ByteObserver& seen_;
  std::uint64_t bits_;
  std::span<const std::byte> rest_;
};

bool bit_at(std::span<const std::byte> bytes, std::uint64_t bit) {
  return (std::to_integer<unsigned>(bytes[bit / 8]) >> (bit % 8) & 1) != 0;
}

bool same_bits(std::span<const std::byte> a, std::span<const std::byte> b, std::uint64_t element, std::uint64_t bits) {
  if (bits % 8 == 0) return std::memcmp(a.data() + element * bits / 8, b.data() + element * bits / 8, bits / 8) == 0;
  for (std::uint64_t bit = element * bits; bit < (element + 1) * bits; ++bit) {
    if (bit_at(a, bit) != bit_at(b, bit)) return false;
  }
  return true;
}

class Comparison {
 public:
  Comparison(bool numeric, bool by_bits, DType dtype_a, DType dtype_b)
      : by_bits_(by_bits), dtype_a_(dtype_a), dtype_b_(dtype_b) {
    difference_.numeric = numeric;
  }

  void add(std::span<const std::byte> a, std::span<const std::byte> b, std::uint64_t count) {
    if (difference_.numeric) {
      values_a_.resize(count);
      values_b_.resize(count);
      widen(dtype_a_, a, values_a_);
      widen(dtype_b_, b, values_b_);
      add_values();
    }
    if (!by_bits_ || std::memcmp(a.data(), b.data(), a.size()) != 0) {
      for (std::uint64_t i = 0; i < count; ++i) {
        const bool same = by_bits_ ? same_bits(a, b, i, bits_of(dtype_a_)) : same_value(i);
        if (!same) add_differing(i);
      }
    }
    difference_.elements += count;
  }

  const TensorDifference& difference() const { return difference_; }

 private:
  bool same_value(std::uint64_t i) const {
    return std::bit_cast<std::uint64_t>(values_a_[i]) == std::bit_cast<std::uint64_t>(values_b_[i]);
  }

  void add_differing(std::uint64_t i) {
    ++difference_.differing;
    if (!difference_.first) difference_.first = difference_.elements + i;
    if (!difference_.numeric) return;
    const double distance = values_a_[i] == values_b_[i] ? 0 : std::abs(values_a_[i] - values_b_[i]);
    difference_.max_abs =
        std::isnan(distance) ? std::numeric_limits<double>::infinity() : std::max(difference_.max_abs, distance);
  }

  void add_values() {
    double squares = 0;
    double squared_diff = 0;
    for (std::size_t i = 0; i < values_a_.size(); ++i) {
      if (!std::isfinite(values_a_[i]) || !std::isfinite(values_b_[i])) continue;
      const double diff = values_a_[i] - values_b_[i];
      squares += values_a_[i] * values_a_[i];
      squared_diff += diff * diff;
    }
    difference_.sum_squares += squares;
    difference_.sum_squared_diff += squared_diff;
  }

  bool by_bits_;
  DType dtype_a_;
  DType dtype_b_;
  std::vector<double> values_a_;
  std::vector<double> values_b_;
  TensorDifference difference_;
};

}  // namespace

std::optional<double> TensorDifference::snr_db() const {
  const double db = 10 * std::log10(sum_squares / sum_squared_diff);
  return numeric && std::isfinite(db) ? std::optional(db) : std::nullopt;
}

std::optional<double> TensorDifference::relative_error() const {
  const double error = sum_squared_diff == 0 ? 0 : std::sqrt(sum_squared_diff / sum_squares);
  return numeric && std::isfinite(error) ? std::optional(error) : std::nullopt;
}

Result<TensorDifference> compare_tensors(std::uint64_t elements, TensorStream stream_a, TensorStream stream_b,
                                         const std::atomic<bool>& stop, const ByteObserver& seen_a,
                                         const ByteObserver& seen_b) {
  Cursor a(std::move(stream_a), seen_a);
  Cursor b(std::move(stream_b), seen_b);
  const bool numeric = is_float(a.dtype()) && is_float(b.dtype());
  const bool by_bits = a.dtype() == b.dtype() && a.exact() == b.exact();
  Comparison comparison(numeric, by_bits, a.dtype(), b.dtype());
  for (std::uint64_t left = elements; left > 0;) {
    if (stop.load()) return stopped();
    const auto count_a = a.available();
    if (!count_a) return count_a.error();
    const auto count_b = b.available();
    if (!count_b) return count_b.error();
    const std::uint64_t count = std::min({*count_a, *count_b, kStepElements, left});
    if (count == 0) break;  // Never: a source that ends early says so.
    comparison.add(a.take(count), b.take(count), count);
    left -= count;
  }
  return comparison.difference();
}

}  // namespace cdna::tools
