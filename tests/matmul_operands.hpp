// Operands of the kernels in kernels/cpu/matmul.h, and what they stand for, by plain loops.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <stdexcept>
#include <vector>

#include "available_kernels.hpp"
#include "kernels/cpu/matmul.h"

namespace cdna::test {

// Memory that ends with a page, behind which nothing may be touched. Filled with a pattern that is no zero.
template <class T>
class Guarded {
 public:
  // The first element is aligned if count * sizeof(T) is.
  explicit Guarded(std::size_t count) : count_(count) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t used = (count * sizeof(T) + page - 1) / page * page;
    bytes_ = used + page;
    void* const begin = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (begin == MAP_FAILED) throw std::runtime_error("mmap");
    begin_ = static_cast<std::byte*>(begin);
    std::memset(begin_, 0x5A, used);
    if (::mprotect(begin_ + used, page, PROT_NONE) != 0) throw std::runtime_error("mprotect");
    data_ = reinterpret_cast<T*>(begin_ + used - count * sizeof(T));
  }
  explicit Guarded(const std::vector<T>& values) : Guarded(values.size()) {
    if (!values.empty()) std::memcpy(data_, values.data(), values.size() * sizeof(T));
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { ::munmap(begin_, bytes_); }

  T* data() { return data_; }
  std::vector<T> values() const {
    std::vector<T> out(count_);
    if (count_ > 0) std::memcpy(out.data(), data_, count_ * sizeof(T));
    return out;
  }

 private:
  std::size_t count_;
  std::size_t bytes_ = 0;
  std::byte* begin_ = nullptr;
  T* data_ = nullptr;
};

using Random = std::mt19937_64;

inline std::size_t below(Random& random, std::size_t limit) { return random() % limit; }
// In (-1, 1), never near 0.
inline float any_value(Random& random) {
  const float magnitude = 0.01F + static_cast<float>(random() % 1000) / 1024;
  return random() % 2 == 0 ? magnitude : -magnitude;
}

inline std::size_t whole_chunks(std::size_t count) { return (count + CDNA_CHUNK - 1) / CDNA_CHUNK * CDNA_CHUNK; }

// spec/format.md, 8.2, bit by bit.
inline std::vector<std::uint8_t> pack(const std::vector<std::uint8_t>& codes, std::uint32_t bits) {
  std::vector<std::uint8_t> packed((codes.size() * bits + 7) / 8);
  for (std::size_t i = 0; i < codes.size() * bits; ++i)
    if ((codes[i / bits] >> i % bits & 1) != 0) packed[i / 8] = static_cast<std::uint8_t>(packed[i / 8] | 1 << i % 8);
  return packed;
}

// The nearest bf16 number, ties to even, by arithmetic on its spacing. (+ 0 - 0: a NaN is returned as it is.)
inline double nearest_bf16(double value) {
  if (value == 0 || !std::isfinite(value)) return value;
  const double spacing = std::ldexp(1.0, std::max(std::ilogb(value) - 7, -133));
  const double nearest = std::nearbyint(value / spacing) * spacing;
  return std::abs(nearest) >= 0x1p128 ? std::copysign(INFINITY, value) : nearest;
}

// Requires: value is a bf16 number, or a NaN.
inline std::uint16_t bits_of_bf16(double value) {
  const auto narrow = static_cast<float>(value);
  std::uint32_t bits = 0;
  std::memcpy(&bits, &narrow, sizeof bits);
  return static_cast<std::uint16_t>(bits >> 16);
}

inline double value_of_bf16(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value = 0;
  std::memcpy(&value, &wide, sizeof value);
  return static_cast<double>(value);
}

// Requires: 2^bits entries.
inline cdna_lookup lookup_of(const std::vector<float>& entries, std::uint32_t bits) {
  cdna_lookup table = {};
  table.bits = bits;
  table.entry_unit = 1;
  float largest = 0;
  for (const float entry : entries) largest = std::max(largest, std::abs(entry));
  table.fixed_step = largest / 32767;
  for (std::size_t i = 0; i < 256; ++i) {
    const float entry = entries[i % entries.size()];
    table.values[i] = entry;
    std::uint32_t wide = 0;
    std::memcpy(&wide, &entry, sizeof wide);
    for (std::uint32_t plane = 0; plane < 4; ++plane)
      table.planes[plane][i] = static_cast<std::uint8_t>(wide >> 8 * plane);
    const std::uint16_t narrow = bits_of_bf16(nearest_bf16(static_cast<double>(entry)));
    const double steps = static_cast<double>(entry) / static_cast<double>(table.fixed_step);
    const auto fixed = static_cast<std::uint16_t>(std::lround(steps) + 32768);
    for (std::uint32_t plane = 0; plane < 2; ++plane) {
      table.bf16_planes[plane][i] = static_cast<std::uint8_t>(narrow >> 8 * plane);
      table.fixed_planes[plane][i] = static_cast<std::uint8_t>(fixed >> 8 * plane);
    }
  }
  return table;
}

// A row of codes with its table, at the end of a page.
struct CodeRow {
  std::uint32_t bits;
  std::vector<std::uint8_t> codes;
  std::vector<float> entries;
  std::vector<float> scales;  // One per 32 columns, up to a whole chunk.
  cdna_lookup table;
  Guarded<std::uint8_t> packed;
  Guarded<float> guarded_scales;

  CodeRow(std::uint32_t code_bits, std::vector<std::uint8_t> of, std::vector<float> with, std::vector<float> by)
      : bits(code_bits),
        codes(std::move(of)),
        entries(std::move(with)),
        scales(std::move(by)),
        table(lookup_of(entries, bits)),
        packed(pack(codes, bits)),
        guarded_scales(scales) {}

  cdna_code_row row(bool scaled) { return {packed.data(), codes.size(), scaled ? guarded_scales.data() : nullptr}; }
  double scale(std::size_t column, bool scaled) const {
    return scaled ? static_cast<double>(scales[column / CDNA_SCALE_COLUMNS]) : 1.0;
  }
};

inline CodeRow random_row(Random& random, std::uint32_t bits, std::size_t count) {
  std::vector<std::uint8_t> codes(count);
  for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(random() % (1U << bits));
  std::vector<float> entries(std::size_t{1} << bits);
  for (float& entry : entries) entry = any_value(random);
  std::vector<float> scales(whole_chunks(count) / CDNA_SCALE_COLUMNS);
  for (float& scale : scales) scale = any_value(random);
  return {bits, std::move(codes), std::move(entries), std::move(scales)};
}

// `rows` rows in packed order, `stride` apart, 0 past the columns.
template <class T>
std::vector<T> in_packed_order(const std::vector<std::vector<T>>& rows, cdna_order order, std::size_t stride) {
  std::vector<T> packed(rows.size() * stride);
  for (std::size_t i = 0; i < rows.size(); ++i)
    for (std::size_t p = 0; p < stride; ++p) {
      const std::size_t column =
          p / CDNA_CHUNK * CDNA_CHUNK + cdna_packed_column(order, static_cast<std::uint32_t>(p % CDNA_CHUNK));
      if (column < rows[i].size()) packed[i * stride + p] = rows[i][column];
    }
  return packed;
}

// Calls body(kernels, bits, count, m) for each of them, all widths, all counts to 130 and some more.
template <class Kernels, class Body>
void for_sizes(const std::vector<OfIsa<Kernels>>& all, std::uint64_t seed, Random& random, const Body& body) {
  INFO("seed " << seed);
  for (const auto& [name, kernels] : all) {
    for (std::uint32_t bits = 1; bits <= 8; ++bits) {
      for (std::size_t i = 0; i < 140; ++i) {
        const std::size_t count = i <= 130 ? i : below(random, 20'000);
        const std::size_t m = 1 + i % CDNA_DOT_ROWS_MAX;
        INFO(name << ", " << bits << " bits, " << count << " columns, " << m << " rows of x");
        body(*kernels, bits, count, m);
      }
    }
  }
}

inline double sum_of(const float (&lanes)[CDNA_SUM_LANES]) {
  double sum = 0;
  for (const float lane : lanes) sum += static_cast<double>(lane);
  return sum;
}

}  // namespace cdna::test
