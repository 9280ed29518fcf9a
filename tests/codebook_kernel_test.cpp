// Every function of the codebook kernels on every instruction set that this machine has, against plain loops, bit for
// bit. Buffers end where they are allowed to be touched last, so that a sanitizer finds what goes beyond.
#include <algorithm>
#include <array>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "codebook_kernels.hpp"
#include "kernels/cpu/codebook.h"
#include "libcdna/encode/codebook.hpp"
#include "libcdna/encode/scale_table.hpp"
#include "random.hpp"
#include "small_floats.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kSeed = 512;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// `count` values that begin at any byte offset below 64 of a block that ends behind the last one.
template <class T>
class Exact {
 public:
  Exact(std::size_t count, std::size_t offset)
      : count_(count), offset_(offset), bytes_(std::make_unique<std::byte[]>(offset + count * sizeof(T))) {}
  Exact(const std::vector<T>& values, std::size_t offset) : Exact(values.size(), offset) {
    if (!values.empty()) std::memcpy(bytes_.get() + offset, values.data(), values.size() * sizeof(T));
  }
  T* data() { return reinterpret_cast<T*>(bytes_.get() + offset_); }
  std::vector<T> values() const {
    std::vector<T> out(count_);
    if (count_ > 0) std::memcpy(out.data(), bytes_.get() + offset_, count_ * sizeof(T));
    return out;
  }
  // Whether nothing before the values has changed.
  bool is_clean() const {
    return std::all_of(bytes_.get(), bytes_.get() + offset_, [](std::byte b) { return b == std::byte{0}; });
  }

 private:
  std::size_t count_;
  std::size_t offset_;
  std::unique_ptr<std::byte[]> bytes_;
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class T, std::size_t kCount>
bool same_bits(const T (&a)[kCount], const T (&b)[kCount]) {
  return std::memcmp(a, b, sizeof a) == 0;
}

// Calls body(kernels, count, offset) for all counts to 130 and some more, at aligned and odd places (a multiple of 4
// bytes: where floats may stand).
template <class Body>
void for_sizes(const Body& body) {
  INFO("seed " << kSeed);
  Noise noise(kSeed);
  for (const NamedKernels& each : available_codebook_kernels()) {
    for (std::size_t i = 0; i < 160; ++i) {
      const std::size_t count = i <= 130 ? i : noise.below(20'000);
      const std::size_t offset = i % 3 == 0 ? 0 : 4 * noise.below(16);
      INFO(each.name << ", " << count << " values, " << offset << " bytes beyond alignment");
      body(*each.kernels, count, offset, noise);
    }
  }
}

// Any finite value; more often a zero, a subnormal, one of the ends, or near 1.
float finite_value(Noise& noise) {
  const auto sign = static_cast<std::uint32_t>(noise.next() & 0x80000000U);
  switch (noise.below(8)) {
    case 0:
      return std::bit_cast<float>(sign);
    case 1:
      return std::bit_cast<float>(sign | static_cast<std::uint32_t>(noise.below(0x800000)));
    case 2:
      return std::bit_cast<float>(sign | static_cast<std::uint32_t>(0x7F7FFFFF - noise.below(3)));
    case 3:
      return std::bit_cast<float>(sign | static_cast<std::uint32_t>(noise.below(0x7F800000)));
    default:
      return static_cast<float>(noise.gaussian());
  }
}

// Any bits of f32.
float any_value(Noise& noise) {
  if (noise.below(16) == 0) return kInfinity;
  if (noise.below(16) == 0) return -kInfinity;
  if (noise.below(8) == 0) return std::bit_cast<float>(static_cast<std::uint32_t>(noise.next() | 0x7F800001U));
  return finite_value(noise);
}

std::vector<float> values_from(float (*one)(Noise&), std::size_t count, Noise& noise) {
  std::vector<float> values(count);
  for (float& value : values) value = one(noise);
  return values;
}

}  // namespace

TEST_CASE("codebook kernel: f16 and bf16 of every bit pattern widen exactly, at any address") {
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  for (const NamedKernels& each : available_codebook_kernels()) {
    for (const std::size_t offset : {0U, 1U, 2U, 3U, 17U}) {
      INFO(each.name << ", " << offset);
      Exact<std::uint16_t> bits(all, offset);
      Exact<float> half(all.size(), 4);
      Exact<float> brain(all.size(), 8);
      const auto* const from = reinterpret_cast<const std::byte*>(bits.data());
      each.kernels->widen_f16(from, all.size(), half.data());
      each.kernels->widen_bf16(from, all.size(), brain.data());
      std::uint64_t wrong = 0;
      for (std::uint32_t i = 0; i < 65536; ++i) {
        const auto h = std::bit_cast<std::uint32_t>(half.data()[i]);
        const auto b = std::bit_cast<std::uint32_t>(brain.data()[i]);
        wrong += b != i << 16;
        const bool special = (i & 0x7C00U) == 0x7C00U;  // An infinity or NaN stays one, with all its bits.
        const std::uint32_t expected =
            special ? (i & 0x8000U) << 16 | 0x7F800000U | (i & 0x3FFU) << 13
                    : std::bit_cast<std::uint32_t>(static_cast<float>(value_of_f16(static_cast<std::uint16_t>(i))));
        wrong += h != expected;
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("codebook kernel: runs of f16 and bf16 of any length widen, and nothing beyond them is touched") {
  for_sizes([](const cdna_codebook_kernels& kernels, std::size_t count, std::size_t offset, Noise& noise) {
    std::vector<std::uint16_t> values(count);
    for (std::uint16_t& value : values) value = static_cast<std::uint16_t>(noise.next());
    Exact<std::uint16_t> bits(values, offset + 1);
    Exact<float> out(count, offset);
    kernels.widen_f16(reinterpret_cast<const std::byte*>(bits.data()), count, out.data());
    std::uint64_t wrong = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if ((values[i] & 0x7C00U) != 0x7C00U) wrong += static_cast<double>(out.data()[i]) != value_of_f16(values[i]);
    }
    kernels.widen_bf16(reinterpret_cast<const std::byte*>(bits.data()), count, out.data());
    for (std::size_t i = 0; i < count; ++i)
      wrong += std::bit_cast<std::uint32_t>(out.data()[i]) != std::uint32_t{values[i]} << 16;
    REQUIRE(wrong == 0);
    REQUIRE(out.is_clean());
  });
}

TEST_CASE("codebook kernel: max_magnitude is the largest magnitude as bits, NaN and infinity above all") {
  for_sizes([](const cdna_codebook_kernels& kernels, std::size_t count, std::size_t offset, Noise& noise) {
    for (const auto& one : {&finite_value, &any_value}) {
      Exact<float> x(values_from(one, count, noise), offset);
      std::uint32_t expected = 0;
      for (std::size_t i = 0; i < count; ++i)
        expected = std::max(expected, std::bit_cast<std::uint32_t>(x.data()[i]) & 0x7FFFFFFFU);
      REQUIRE(kernels.max_magnitude(x.data(), count) == expected);
    }
  });
}

TEST_CASE("codebook kernel: add_squares adds element i's square in f64 to partial sum i mod 8") {
  for_sizes([](const cdna_codebook_kernels& kernels, std::size_t count, std::size_t offset, Noise& noise) {
    Exact<float> x(values_from(&finite_value, count, noise), offset);
    std::vector<double> expected(8);
    for (double& lane : expected) lane = noise.unit();
    Exact<double> lanes(expected, 0);
    for (std::size_t i = 0; i < count; ++i)
      expected[i % 8] += static_cast<double>(x.data()[i]) * static_cast<double>(x.data()[i]);
    // In two calls, the first of a multiple of 8.
    const std::size_t first = count / 2 / 8 * 8;
    kernels.add_squares(x.data(), first, lanes.data());
    kernels.add_squares(x.data() + first, count - first, lanes.data());
    REQUIRE(same_bits(lanes.values(), expected));
  });
}

TEST_CASE("codebook kernel: divide and multiply are IEEE 754 single operations, subnormals kept") {
  for_sizes([](const cdna_codebook_kernels& kernels, std::size_t count, std::size_t offset, Noise& noise) {
    Exact<float> x(values_from(&finite_value, count, noise), offset);
    for (const float factor : {1.0F, 0x1p-149F, 3.0F, 0.1F, 3e38F, 1e-30F, static_cast<float>(noise.unit())}) {
      std::vector<float> quotients(count);
      std::vector<float> products(count);
      for (std::size_t i = 0; i < count; ++i) {
        quotients[i] = x.data()[i] / factor;
        // The product is exact in f64.
        products[i] = static_cast<float>(static_cast<double>(x.data()[i]) * static_cast<double>(factor));
      }
      Exact<float> out(count, offset);
      kernels.divide(x.data(), count, factor, out.data());
      REQUIRE(same_bits(out.values(), quotients));
      kernels.multiply(x.data(), count, factor, out.data());
      REQUIRE(same_bits(out.values(), products));
      REQUIRE(out.is_clean());
    }
  });
}

TEST_CASE("codebook kernel: find_large gives the places of magnitudes from the bound on, NaNs among them, ascending") {
  for_sizes([](const cdna_codebook_kernels& kernels, std::size_t count, std::size_t offset, Noise& noise) {
    for (const float bound : {0.0F, 0x1p-149F, 1.0F, 2.0F, 3e38F, kInfinity}) {
      std::vector<float> values = values_from(noise.below(2) == 0 ? &any_value : &finite_value, count, noise);
      for (float& value : values) {
        if (noise.below(10) == 0) value = std::nextafter(bound, noise.below(2) == 0 ? 0.0F : kInfinity);
        if (noise.below(10) == 0) value = -bound;
      }
      Exact<float> v(values, offset);
      std::vector<std::uint32_t> expected;
      for (std::uint32_t i = 0; i < count; ++i) {
        if (std::isnan(values[i]) || std::abs(values[i]) >= bound) expected.push_back(i);
      }
      Exact<std::uint32_t> places(count, 0);
      REQUIRE(kernels.find_large(v.data(), count, bound, places.data()) == expected.size());
      std::vector<std::uint32_t> found = places.values();
      found.resize(expected.size());
      REQUIRE(found == expected);
    }
  });
}

TEST_CASE("codebook kernel: count_magnitudes adds one to each value's bin") {
  for_sizes([](const cdna_codebook_kernels& kernels, std::size_t count, std::size_t offset, Noise& noise) {
    Exact<float> v(values_from(&finite_value, count, noise), offset);
    std::vector<std::uint32_t> expected(2 * CDNA_HISTOGRAM_MAGNITUDES, 5);
    Exact<std::uint32_t> counts(expected, 0);
    for (std::size_t i = 0; i < count; ++i) {
      // The bin by arithmetic on the bits: steps of 2^-11 of an octave from 2^-12 on, clamped.
      const auto bits = static_cast<std::int64_t>(std::bit_cast<std::uint32_t>(v.data()[i]) & 0x7FFFFFFFU);
      const std::int64_t step = (bits >> 12) - ((127 - 12) << 11);
      const std::int64_t bin = std::clamp<std::int64_t>(step, 0, CDNA_HISTOGRAM_MAGNITUDES - 1);
      const bool negative = std::signbit(v.data()[i]);
      ++expected[static_cast<std::size_t>(negative ? CDNA_HISTOGRAM_MAGNITUDES - 1 - bin
                                                   : CDNA_HISTOGRAM_MAGNITUDES + bin)];
    }
    kernels.count_magnitudes(v.data(), count, counts.data());
    REQUIRE(same_bits(counts.values(), expected));
  });
}

namespace {

// Ascending binary16 numbers: at about equal distances (cells), or anywhere, some of them equal (no cells).
Codebook random_codebook(std::uint32_t bits, bool regular, Noise& noise) {
  std::vector<std::uint16_t> entries;
  const std::size_t least = bits == 1 ? 1 : (1U << (bits - 1)) + 1;
  const std::size_t count =
      noise.below(3) == 0 ? std::size_t{1} << bits : least + noise.below((1U << bits) - least + 1);
  for (std::size_t i = 0; i < count; ++i) {
    const double at = (static_cast<double>(i) + noise.unit() * 0.5) / static_cast<double>(count) * 2.2 - 1.1;
    auto any = static_cast<std::uint16_t>(noise.next());
    while ((any & 0x7C00U) == 0x7C00U) any = static_cast<std::uint16_t>(noise.next());
    entries.push_back(regular ? f16_of(at) : any);
    if (!regular && i > 0 && noise.below(8) == 0) entries.back() = entries[i - 1];
  }
  std::sort(entries.begin(), entries.end(),
            [](std::uint16_t a, std::uint16_t b) { return value_of_f16(a) < value_of_f16(b); });
  return Codebook(entries, bits);
}

std::size_t nearest_of(const cdna_codebook& codebook, float value) {
  const float* const end = codebook.midpoints + (std::size_t{1} << codebook.bits) - 1;
  return static_cast<std::size_t>(std::count_if(codebook.midpoints, end, [value](float m) { return m < value; }));
}

// Often an entry, a midpoint or a cell's edge, or the next number to one.
float probe_of(const cdna_codebook& codebook, Noise& noise) {
  const std::size_t i = noise.below(std::size_t{1} << codebook.bits);
  float value = finite_value(noise);
  switch (noise.below(6)) {
    case 0:
      value = codebook.values[i];
      break;
    case 1:
      value = codebook.midpoints[i];
      break;
    case 2:
      if (codebook.cell_count > 0)
        value =
            codebook.cells_begin + static_cast<float>(noise.below(codebook.cell_count + 1)) / codebook.cells_per_unit;
      break;
    case 3:
      value = static_cast<float>(noise.gaussian() / 2);
      break;
    default:
      break;
  }
  const std::uint64_t beside = noise.below(4);
  if (beside == 0) value = std::nextafter(value, kInfinity);
  if (beside == 1) value = std::nextafter(value, -kInfinity);
  return value;
}

// Calls body(codebook) for all bits, with cells and without.
template <class Body>
void for_codebooks(Noise& noise, const Body& body) {
  for (std::uint32_t bits = 1; bits <= 8; ++bits) {
    for (const bool regular : {true, false}) {
      const Codebook codebook = random_codebook(bits, regular, noise);
      INFO(bits << " bits, " << codebook.tables().cell_count << " cells");
      body(codebook.tables());
    }
  }
}

}  // namespace

TEST_CASE("codebook kernel: nearest counts the midpoints below each value, infinities too") {
  for_sizes([](const cdna_codebook_kernels& kernels, std::size_t count, std::size_t offset, Noise& noise) {
    for_codebooks(noise, [&](const cdna_codebook& codebook) {
      std::vector<float> values(count);
      for (float& value : values) value = probe_of(codebook, noise);
      Exact<float> v(values, offset);
      Exact<std::uint8_t> codes(count, offset + 1);
      kernels.nearest(&codebook, v.data(), count, codes.data());
      std::uint64_t wrong = 0;
      for (std::size_t i = 0; i < count; ++i) wrong += codes.data()[i] != nearest_of(codebook, values[i]);
      REQUIRE(wrong == 0);
      REQUIRE(codes.is_clean());
    });
  });
}

TEST_CASE("codebook kernel: decode multiplies the code's value by the scale, rounded once") {
  for_sizes([](const cdna_codebook_kernels& kernels, std::size_t count, std::size_t offset, Noise& noise) {
    for_codebooks(noise, [&](const cdna_codebook& codebook) {
      std::vector<std::uint8_t> numbers(count);
      for (std::uint8_t& number : numbers) number = static_cast<std::uint8_t>(noise.below(1U << codebook.bits));
      Exact<std::uint8_t> codes(numbers, offset + 1);
      Exact<float> out(count, offset);
      for (const float scale : {1.0F, 0.3F, -1.5F, 1e-44F, 3e38F}) {
        kernels.decode(&codebook, codes.data(), count, scale, out.data());
        std::vector<float> expected(count);
        for (std::size_t i = 0; i < count; ++i)
          expected[i] = static_cast<float>(value_of_f16(codebook.halves[numbers[i]]) * static_cast<double>(scale));
        REQUIRE(same_bits(out.values(), expected));
      }
      REQUIRE(out.is_clean());
    });
  });
}

namespace {

// Element i goes to partial sum i mod 16; then halves are added: 0 + 8, 1 + 9, ..., then 0 + 4, ..., 0 + 2, 0 + 1.
float error_of(const cdna_codebook& codebook, const std::vector<float>& u, float scale, float inverse) {
  std::array<float, 16> sums{};
  for (std::size_t i = 0; i < u.size(); ++i) {
    const float decoded = codebook.values[nearest_of(codebook, u[i] * inverse)] * scale;
    sums[i % 16] += (u[i] - decoded) * (u[i] - decoded);
  }
  for (std::size_t half = 8; half >= 1; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

std::uint32_t best_scale(const cdna_codebook& codebook, const cdna_scale_table& table, const std::vector<float>& u,
                         std::uint32_t start) {
  const std::uint32_t sign = table.negative != 0 && start > table.negative ? table.negative : 0;
  std::uint32_t best = 0;
  float least = kInfinity;
  for (std::uint32_t i = table.first; i <= table.last; ++i) {
    const auto distance = static_cast<std::int64_t>(i) - static_cast<std::int64_t>(start - sign);
    if (std::abs(distance) > 4) continue;
    const float error = error_of(codebook, u, table.values[i + sign], table.inverses[i + sign]);
    if (!(error < least)) continue;
    least = error;
    best = i + sign;
  }
  return best;
}

}  // namespace

TEST_CASE("codebook kernel: search_scales gives each group the candidate of least error, the lower of equals") {
  for_sizes([](const cdna_codebook_kernels& kernels, std::size_t size, std::size_t offset, Noise& noise) {
    const std::size_t count = size % 700;
    for_codebooks(noise, [&](const cdna_codebook& codebook) {
      const cdna_scale_table* const tables[] = {&ScaleTable::of(16).table(), &ScaleTable::of(256).table(),
                                                &ScaleTable::for_rows()};
      const cdna_scale_table& table = *tables[noise.below(3)];
      const std::size_t group = std::array<std::size_t, 4>{32, 64, 128, 4096}[noise.below(4)];
      std::vector<float> values(count);
      std::vector<std::uint8_t> starts;
      std::vector<std::uint8_t> expected;
      for (std::size_t begin = 0; begin < count; begin += group) {
        const auto first = values.begin() + static_cast<std::ptrdiff_t>(begin);
        const auto end = values.begin() + static_cast<std::ptrdiff_t>(std::min(begin + group, count));
        const double largest = std::ldexp(1.0, -static_cast<int>(noise.below(9)));
        std::generate(first, end, [&] { return static_cast<float>(largest * (2 * noise.unit() - 1)); });
        if (noise.below(8) == 0) std::fill(first, end, *first);
        if (noise.below(8) == 0) std::fill(first + 1, end, 0.0F);
        // Any start, the ends of the table more often; none.
        std::uint32_t start = table.first + static_cast<std::uint32_t>(noise.below(table.last - table.first + 1));
        if (noise.below(4) == 0) start = noise.below(2) == 0 ? table.first : table.last;
        if (noise.below(2) == 0) start += table.negative;
        if (noise.below(8) == 0) start = 0;
        starts.push_back(static_cast<std::uint8_t>(start));
        expected.push_back(
            static_cast<std::uint8_t>(start == 0 ? 0 : best_scale(codebook, table, {first, end}, start)));
      }
      Exact<float> u(values, offset);
      Exact<std::uint8_t> from(starts, offset + 1);
      Exact<std::uint8_t> numbers(starts.size(), offset + 3);
      kernels.search_scales(&codebook, &table, u.data(), count, group, from.data(), numbers.data());
      INFO(count << " values in groups of " << group);
      REQUIRE(numbers.values() == expected);
      REQUIRE(numbers.is_clean());
    });
  });
}

TEST_CASE("codebook kernel: find_largest gives each group's value of largest magnitude, of two the negative one") {
  for_sizes([](const cdna_codebook_kernels& kernels, std::size_t count, std::size_t offset, Noise& noise) {
    for (const std::size_t group : {32U, 64U, 128U}) {
      std::vector<float> values = values_from(&finite_value, count, noise);
      for (std::size_t i = 1; i < count; ++i) {
        if (noise.below(4) == 0) values[i] = -values[noise.below(i)];
        if (i / group % 5 == 0) values[i] = noise.below(2) == 0 ? 0.0F : -0.0F;  // Groups of zeros.
      }
      std::vector<float> expected;
      for (std::size_t begin = 0; begin < count; begin += group) {
        float largest = 0;
        for (std::size_t i = begin; i < std::min(begin + group, count); ++i) {
          const bool larger = std::abs(values[i]) > std::abs(largest);
          if (larger || (values[i] == -largest && values[i] < 0)) largest = values[i];
        }
        expected.push_back(largest);
      }
      Exact<float> x(values, offset);
      Exact<float> out(expected.size(), offset);
      kernels.find_largest(x.data(), count, group, out.data());
      REQUIRE(out.values() == expected);  // By value: of -0 and +0 any.
      REQUIRE(out.is_clean());
    }
  });
}

TEST_CASE("codebook kernel: add_errors adds powers in f64, element i to partial sum (first + i) mod 8") {
  for_sizes([](const cdna_codebook_kernels& kernels, std::size_t count, std::size_t offset, Noise& noise) {
    Exact<float> x(values_from(&finite_value, count, noise), offset);
    Exact<float> decoded(values_from(&finite_value, count, noise), offset);
    for (const std::uint64_t first : {std::uint64_t{0}, noise.below(1000), (std::uint64_t{1} << 40) + noise.below(8)}) {
      cdna_error_sums sums{};
      cdna_error_sums expected{};
      sums.pivot = expected.pivot = static_cast<double>(finite_value(noise));
      sums.d[3] = expected.d[3] = 0.25;  // What is there is added to.
      sums.error_max[5] = expected.error_max[5] = 0.5;
      for (std::size_t i = 0; i < count; ++i) {
        const std::size_t lane = (first + i) % 8;
        const auto w = static_cast<double>(x.data()[i]);
        const double error = w - static_cast<double>(decoded.data()[i]);
        const double d = w - sums.pivot;
        expected.d[lane] += d;
        expected.d2[lane] += d * d;
        expected.d3[lane] += d * d * d;
        expected.d4[lane] += (d * d) * (d * d);
        expected.w2[lane] += w * w;
        expected.error2[lane] += error * error;
        expected.error_max[lane] = std::max(expected.error_max[lane], std::abs(error));
      }
      kernels.add_errors(x.data(), decoded.data(), count, first, &sums);
      REQUIRE(same_bits(sums.d, expected.d));
      REQUIRE(same_bits(sums.d2, expected.d2));
      REQUIRE(same_bits(sums.d3, expected.d3));
      REQUIRE(same_bits(sums.d4, expected.d4));
      REQUIRE(same_bits(sums.w2, expected.w2));
      REQUIRE(same_bits(sums.error2, expected.error2));
      REQUIRE(same_bits(sums.error_max, expected.error_max));
    }
  });
}
