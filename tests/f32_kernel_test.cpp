// Every function of the f32 products on every instruction set that this machine has, against plain loops that follow
// the words of kernels/cpu/matmul.h, bit for bit. Codes end where a page ends that nobody may touch.
#include <algorithm>
#include <array>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "available_kernels.hpp"
#include "case_stride.hpp"
#include "guarded_memory.hpp"
#include "kernels/cpu/matmul.h"
#include "pwl_entries.hpp"
#include "random.hpp"
#include "small_floats.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kSeed = 754;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<OfIsa<cdna_f32_kernels>> available_kernels() {
  return available<cdna_f32_kernels>({
    {Isa::baseline, cdna_f32_kernels_baseline},
#if defined(__x86_64__)
        {Isa::avx2, cdna_f32_kernels_avx2}, {Isa::avx512, cdna_f32_kernels_avx512},
#endif
  });
}

// ---- Inputs ----

constexpr std::size_t kPadding = CDNA_CHUNK;

std::size_t chunks_end(std::size_t count) { return (count + CDNA_CHUNK - 1) / CDNA_CHUNK * CDNA_CHUNK; }

// Floats at a multiple of 64 bytes.
class Floats {
 public:
  explicit Floats(std::size_t count, float value = 0) : lines_(count / 16 + 1), count_(count) {
    std::fill(begin(), begin() + count, value);
  }
  float* begin() { return lines_.data()->values; }
  const float* begin() const { return lines_.data()->values; }
  float& operator[](std::size_t i) { return begin()[i]; }
  float operator[](std::size_t i) const { return begin()[i]; }
  std::size_t size() const { return count_; }

 private:
  struct alignas(64) Line {
    float values[16] = {};
  };
  std::vector<Line> lines_;
  std::size_t count_;
};

bool same(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

bool same(const float* a, const float* b, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    if (!same(a[i], b[i])) return false;
  }
  return true;
}

bool same(const Floats& a, const Floats& b) { return a.size() == b.size() && same(a.begin(), b.begin(), a.size()); }

enum class Entries { halves, odd_halves, floats, odd_floats, lines };
constexpr Entries kEntries[] = {Entries::halves, Entries::odd_halves, Entries::floats, Entries::odd_floats,
                                Entries::lines};

// Zeros, subnormals, the ends and infinities. The first, which is code 0, makes NaN of a 0 in x.
constexpr double kOddHalves[] = {kInfinity, 0.0, -0.0, 0x1p-24, -0x1p-24, 0x1p-14, -65504, -0x1.8p-20};
constexpr float kOddFloats[] = {-kInfinity, -0.0F, 0.0F, 0x1p-149F, -0x1.8p-130F, 0x1p-126F, 0x1.fffffep127F, 0x1p-75F};

float entry_of(Entries entries, std::size_t code, Noise& noise) {
  const bool odd = code % 4 == 0;
  switch (entries) {
    case Entries::halves:
      return static_cast<float>(value_of_f16(f16_of(noise.gaussian())));
    case Entries::odd_halves:
      return static_cast<float>(odd ? kOddHalves[code / 4 % 8] : value_of_f16(f16_of(noise.gaussian())));
    case Entries::floats:
      return static_cast<float>(noise.gaussian());
    default:
      return odd ? kOddFloats[code / 4 % 8] : static_cast<float>(noise.gaussian());
  }
}

bool is_normal_half(float value) {
  if (!std::isfinite(value) || value_of_f16(f16_of(static_cast<double>(value))) != static_cast<double>(value))
    return false;
  const auto exponent_field = f16_of(static_cast<double>(value)) >> 10 & 31;
  return exponent_field >= 1 && exponent_field <= 30;
}

void put_lines(cdna_lookup& table, const PwlEntries& book) {
  table.is_pwl = 1;
  for (std::size_t line = 0; line < kLines; ++line) {
    for (std::uint32_t k = 0; k < 2; ++k) {
      table.pwl_planes[k][line] = static_cast<std::uint8_t>(book.bases[line] >> (8 * k));
      table.pwl_planes[k + 2][line] = static_cast<std::uint8_t>(book.steps[line] >> (8 * k));
    }
  }
}

// Only the forms that the f32 kernels use.
cdna_lookup make_lookup(std::uint32_t bits, Entries entries, Noise& noise) {
  cdna_lookup table = {};
  table.bits = bits;
  table.is_half = entries != Entries::floats && entries != Entries::odd_floats;
  std::vector<float> values;
  if (entries == Entries::lines) {
    const PwlEntries book = random_pwl_entries(noise);
    put_lines(table, book);
    values = book.entries;
  }
  while (values.size() < std::size_t{1} << bits) values.push_back(entry_of(entries, values.size(), noise));
  const bool are_normal = std::all_of(values.begin(), values.end(), is_normal_half);
  table.entry_unit = are_normal && bits != 4 ? 65536.0F : 1.0F;
  for (std::size_t i = 0; i < 256; ++i) {
    const float value = values[i % values.size()];
    table.values[i] = value;
    const auto whole = std::bit_cast<std::uint32_t>(value);
    for (std::uint32_t k = 0; k < 4; ++k) table.planes[k][i] = static_cast<std::uint8_t>(whole >> (8 * k));
    const std::uint16_t half = table.is_half != 0 ? f16_of(static_cast<double>(value)) : std::uint16_t{0xFFFF};
    for (std::uint32_t k = 0; k < 2; ++k) table.half_planes[k][i] = static_cast<std::uint8_t>(half >> (8 * k));
  }
  return table;
}

std::size_t row_bytes_of(std::size_t count, std::uint32_t bits) { return (count * bits + 7) / 8; }

std::vector<std::uint8_t> random_bytes(std::size_t count, Noise& noise) {
  std::vector<std::uint8_t> bytes(count);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(noise.below(256));
  return bytes;
}

// Entry j in bits [j * bits, (j + 1) * bits), bit i being bit i % 8 of byte i / 8 (8.2).
std::uint32_t code_of(const std::uint8_t* codes, std::size_t j, std::uint32_t bits) {
  std::uint32_t code = 0;
  for (std::uint32_t k = 0; k < bits; ++k) {
    const std::size_t bit = j * bits + k;
    code |= static_cast<std::uint32_t>(codes[bit / 8] >> (bit % 8) & 1) << k;
  }
  return code;
}

Floats gaussians(std::size_t count, Noise& noise) {
  Floats out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<float>(noise.gaussian());
  return out;
}

// ---- What the header says ----

cdna_order order_of(std::uint32_t bits) { return bits == 4 ? CDNA_ORDER_NIBBLES : CDNA_ORDER_EVEN_ODD; }

std::size_t packed_column(cdna_order order, std::size_t p) {
  return p / CDNA_CHUNK * CDNA_CHUNK + cdna_packed_column(order, static_cast<std::uint32_t>(p % CDNA_CHUNK));
}

Floats packed(const Floats& natural, std::size_t count, cdna_order order) {
  Floats out(chunks_end(count));
  for (std::size_t p = 0; p < out.size(); ++p) {
    const std::size_t column = packed_column(order, p);
    out[p] = column < count ? natural[column] : 0;
  }
  return out;
}

// Entries of a row, divided by `unit`, in packed order, 0 past the last column.
Floats packed_entries(const cdna_lookup& table, const std::uint8_t* codes, std::size_t count, float unit) {
  Floats natural(count);
  for (std::size_t j = 0; j < count; ++j) natural[j] = table.values[code_of(codes, j, table.bits)] / unit;
  return packed(natural, count, order_of(table.bits));
}

Floats packed_scales(const float* scales, std::size_t count, cdna_order order) {
  Floats natural(count);
  for (std::size_t j = 0; j < count; ++j) natural[j] = scales[j / CDNA_SCALE_COLUMNS];
  return packed(natural, count, order);
}

using Sums = std::array<float, CDNA_SUM_LANES>;

// x and w in packed order; scales of the whole row, 0 past its end; null: none.
void reference_dot(const float* x, const float* w, std::size_t count, cdna_order order, const float* scales,
                   Sums& sums) {
  const std::size_t block = order == CDNA_ORDER_NIBBLES ? 128 : 64;
  for (std::size_t begin = 0; begin < count; begin += block) {
    for (std::size_t lane = 0; lane < CDNA_SUM_LANES; ++lane) {
      float t = x[begin + lane] * w[begin + lane];
      for (std::size_t p = begin + lane + 16; p < begin + block; p += 16) t = std::fma(x[p], w[p], t);
      if (scales == nullptr) {
        sums[lane] += t;
      } else {
        const std::size_t column = packed_column(order, begin + lane);
        sums[lane] = std::fma(t, scales[column / CDNA_SCALE_COLUMNS], sums[lane]);
      }
    }
  }
}

// ---- Sizes ----

std::vector<std::size_t> counts(Noise& noise) {
  std::vector<std::size_t> out;
  for (std::size_t count = 0; count <= 130; ++count) out.push_back(count);
  for (int i = 0; i < 6; ++i) out.push_back(131 + noise.below(3000));
  out.push_back(1024);
  return out;
}

// A row of codes at the end of a page, with everything that can be asked about it.
struct Row {
  std::uint32_t bits;
  std::size_t count;
  bool scaled;
  std::string what;
  cdna_lookup table;
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;  // Of whole chunks; 0 past the end.
};

Row make_row(std::uint32_t bits, Entries entries, std::size_t count, bool scaled, Noise& noise) {
  Row row = {bits, count, scaled, {}, make_lookup(bits, entries, noise), {}, {}};
  row.what = std::to_string(count) + " codes of " + std::to_string(bits) + " bits, entries " +
             std::to_string(static_cast<int>(entries)) + (scaled ? ", scaled" : "");
  row.codes = random_bytes(row_bytes_of(count, bits), noise);
  row.scales.resize(chunks_end(count) / CDNA_SCALE_COLUMNS);
  for (std::size_t i = 0; i * CDNA_SCALE_COLUMNS < count; ++i) row.scales[i] = static_cast<float>(noise.gaussian());
  return row;
}

// Calls body(row, places) for all bits, entries and sizes.
template <class Body>
void for_rows(const Body& body) {
  INFO("seed " << kSeed);
  Noise noise(kSeed);
  for (std::uint32_t bits = 1; bits <= 8; ++bits) {
    for (const Entries entries : kEntries) {
      if (entries == Entries::lines && bits != 8) continue;
      for (const std::size_t count : counts(noise)) {
        const Row row = make_row(bits, entries, count, noise.below(2) == 0, noise);
        INFO(row.what);
        body(row, noise);
      }
    }
  }
}

}  // namespace

TEST_CASE("f32 kernels: dot_codes is the sum in 16 lanes") {
  GuardedMemory memory(1 << 14);
  for_rows([&](const Row& row, Noise& noise) {
    const std::size_t m = 1 + noise.below(4);
    const std::size_t x_stride = chunks_end(row.count) + 16 * noise.below(3);
    const Floats w = packed_entries(row.table, row.codes.data(), row.count, row.table.entry_unit);
    const float x_unit = noise.below(4) == 0 ? (noise.below(2) == 0 ? 0x1p-120F : 0x1p120F) : 1.0F;
    Floats x(m * x_stride, std::numeric_limits<float>::quiet_NaN());
    std::vector<Sums> expected(m);
    std::vector<Sums> start(m);
    for (std::size_t i = 0; i < m; ++i) {
      Floats one = packed(gaussians(row.count, noise), row.count, order_of(row.bits));
      for (std::size_t p = 0; p < one.size(); ++p) one[p] *= x_unit;  // Where products are subnormal, or too large.
      std::copy(one.begin(), one.begin() + one.size(), x.begin() + i * x_stride);
      for (float& sum : start[i]) sum = static_cast<float>(noise.gaussian()) * x_unit;
      expected[i] = start[i];
      reference_dot(one.begin(), w.begin(), row.count, order_of(row.bits), row.scaled ? row.scales.data() : nullptr,
                    expected[i]);
    }
    const std::size_t before_end = noise.below(2) == 0 ? 0 : noise.below(64);
    const cdna_code_row codes = {memory.hold<std::uint8_t>(row.codes, before_end), row.count,
                                 row.scaled ? row.scales.data() : nullptr};
    for (const auto& each : available_kernels()) {
      INFO(each.name << ", m " << m);
      std::vector<Sums> sums = start;
      each.kernels->dot_codes(&row.table, &codes, x.begin(), x_stride, m,
                              reinterpret_cast<float(*)[CDNA_SUM_LANES]>(sums.data()));
      for (std::size_t i = 0; i < m; ++i) REQUIRE(same(sums[i].data(), expected[i].data(), CDNA_SUM_LANES));
    }
  });
}

TEST_CASE("f32 kernels: decode gives entries in packed order, and 0 past the last column") {
  GuardedMemory memory(1 << 14);
  for_rows([&](const Row& row, Noise& noise) {
    Floats expected = packed_entries(row.table, row.codes.data(), row.count, 1);
    const Floats scales = packed_scales(row.scales.data(), row.count, order_of(row.bits));
    for (std::size_t p = 0; p < expected.size(); ++p) {
      if (row.scaled && packed_column(order_of(row.bits), p) < row.count) expected[p] *= scales[p];
    }
    const std::size_t before_end = noise.below(2) == 0 ? 0 : noise.below(64);
    const cdna_code_row codes = {memory.hold<std::uint8_t>(row.codes, before_end), row.count,
                                 row.scaled ? row.scales.data() : nullptr};
    for (const auto& each : available_kernels()) {
      INFO(each.name);
      Floats out(expected.size() + kPadding, 7);
      each.kernels->decode(&row.table, &codes, out.begin());
      REQUIRE(same(out.begin(), expected.begin(), expected.size()));
      REQUIRE(std::count(out.begin() + expected.size(), out.begin() + out.size(), 7.0F) == kPadding);
    }
  });
}

TEST_CASE("f32 kernels: add_codes adds row after row") {
  GuardedMemory memory(1 << 16);
  for_rows([&](const Row& row, Noise& noise) {
    const std::size_t m = 1 + noise.below(4);
    const std::size_t rows = noise.below(11);
    const std::size_t scale_stride = row.scales.size() + noise.below(3);
    const std::size_t row_bytes = row.codes.size() + noise.below(3);
    const std::size_t y_stride = chunks_end(row.count) + 16 * noise.below(3);
    std::vector<std::uint8_t> all_codes = random_bytes(rows * row_bytes, noise);
    if (rows > 0) all_codes.resize((rows - 1) * row_bytes + row.codes.size());
    const Floats scales = gaussians(rows * scale_stride, noise);
    const Floats factors = gaussians(m * rows, noise);
    const Floats start = gaussians(m * y_stride, noise);
    Floats expected = start;
    for (std::size_t r = 0; r < rows; ++r) {
      const Floats w = packed_entries(row.table, all_codes.data() + r * row_bytes, row.count, row.table.entry_unit);
      const Floats each_scale = packed_scales(scales.begin() + r * scale_stride, row.count, order_of(row.bits));
      for (std::size_t i = 0; i < m; ++i) {
        for (std::size_t p = 0; p < w.size(); ++p) {
          float& y = expected[i * y_stride + p];
          y = std::fma(factors[i * rows + r], row.scaled ? w[p] * each_scale[p] : w[p], y);
        }
      }
    }
    const std::size_t before_end = noise.below(2) == 0 ? 0 : noise.below(64);
    const cdna_code_row first = {memory.hold<std::uint8_t>(all_codes, before_end), row.count,
                                 row.scaled ? scales.begin() : nullptr};
    for (const auto& each : available_kernels()) {
      INFO(each.name << ", m " << m << ", rows " << rows);
      Floats y = start;
      each.kernels->add_codes(&row.table, &first, rows, row_bytes, scale_stride, factors.begin(), m, y.begin(),
                              y_stride);
      REQUIRE(same(y, expected));
    }
  });
}

TEST_CASE("f32 kernels: dot_values is the same sum of values in natural order") {
  INFO("seed " << kSeed);
  Noise noise(kSeed);
  GuardedMemory memory(1 << 16);
  for (int repetition = 0; repetition < 4; ++repetition) {
    for (const std::size_t count : counts(noise)) {
      const std::size_t m = 1 + noise.below(4);
      const std::size_t x_stride = chunks_end(count) + 16 * noise.below(3);
      const Floats w = gaussians(count, noise);
      const Floats padded = packed(w, count, CDNA_ORDER_NATURAL);
      Floats x(m * x_stride, std::numeric_limits<float>::quiet_NaN());
      std::vector<Sums> expected(m);
      for (std::size_t i = 0; i < m; ++i) {
        const Floats one = packed(gaussians(count, noise), count, CDNA_ORDER_NATURAL);
        std::copy(one.begin(), one.begin() + one.size(), x.begin() + i * x_stride);
        reference_dot(one.begin(), padded.begin(), count, CDNA_ORDER_NATURAL, nullptr, expected[i]);
      }
      const float* const values = memory.hold(std::span<const float>(w.begin(), count), 4 * noise.below(16));
      for (const auto& each : available_kernels()) {
        INFO(each.name << ", " << count << " values, m " << m);
        std::vector<Sums> sums(m);
        each.kernels->dot_values(values, count, x.begin(), x_stride, m,
                                 reinterpret_cast<float(*)[CDNA_SUM_LANES]>(sums.data()));
        for (std::size_t i = 0; i < m; ++i) REQUIRE(same(sums[i].data(), expected[i].data(), CDNA_SUM_LANES));
      }
    }
  }
}

TEST_CASE("f32 kernels: look_up repeats each entry") {
  INFO("seed " << kSeed);
  Noise noise(kSeed);
  GuardedMemory memory(1 << 14);
  const cdna_lookup table = make_lookup(8, Entries::odd_floats, noise);
  for (std::size_t repeat = 1; repeat <= 9; ++repeat) {
    for (const std::size_t count : counts(noise)) {
      const std::vector<std::uint8_t> bytes = random_bytes(count, noise);
      const std::uint8_t* const numbers = memory.hold<std::uint8_t>(bytes, noise.below(2) * noise.below(64));
      for (const auto& each : available_kernels()) {
        INFO(each.name << ", " << count << " numbers, each " << repeat << " times");
        Floats out(count * repeat + kPadding, 7);
        each.kernels->look_up(&table, numbers, count, repeat, out.begin());
        bool right = true;
        for (std::size_t i = 0; i < count * repeat; ++i) right &= same(out[i], table.values[bytes[i / repeat]]);
        REQUIRE(right);
        REQUIRE(std::count(out.begin() + count * repeat, out.begin() + out.size(), 7.0F) == kPadding);
      }
    }
  }
}

TEST_CASE("f32 kernels: multiply sums in one chain per element") {
  INFO("seed " << kSeed);
  Noise noise(kSeed);
  GuardedMemory memory(1 << 18);
  for (std::size_t rows = 0; rows <= 40; ++rows) {
    for (std::size_t lanes = 0; lanes <= 160; lanes += 16) {
      const std::size_t depth = noise.below(8) == 0 ? noise.below(600) : noise.below(20);
      const std::size_t lda = depth + noise.below(4);
      const std::size_t ldb = lanes + 16 * noise.below(3);
      const std::size_t ldc = lanes + 16 * noise.below(3);
      const Floats a = gaussians(rows * lda, noise);
      const Floats b = gaussians(depth * ldb, noise);
      const Floats start = gaussians(rows * ldc, noise);
      Floats expected = start;
      for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t j = 0; j < lanes; ++j) {
          float& sum = expected[i * ldc + j];
          for (std::size_t t = 0; t < depth; ++t) sum = std::fma(a[i * lda + t], b[t * ldb + j], sum);
        }
      }
      const float* const held = memory.hold(std::span<const float>(a.begin(), a.size()));
      for (const auto& each : available_kernels()) {
        INFO(each.name << ", " << rows << " x " << depth << " x " << lanes);
        Floats c = start;
        each.kernels->multiply(held, lda, rows, b.begin(), ldb, lanes, depth, c.begin(), ldc);
        REQUIRE(same(c, expected));
      }
    }
  }
}

namespace {

// Any bits; more often numbers whose products and sums are subnormal, tie, cancel or overflow.
float hard_float(Noise& noise) {
  const auto sign = static_cast<std::uint32_t>(noise.below(2)) << 31;
  const auto fraction = static_cast<std::uint32_t>(noise.below(1 << 23));
  const auto near_one = static_cast<std::uint32_t>(100 + noise.below(55)) << 23;
  switch (noise.below(8)) {
    case 0:
      return std::bit_cast<float>(sign | fraction);  // Subnormal.
    case 1:
      return std::bit_cast<float>(sign | near_one);  // A power of two.
    case 2:
      return std::bit_cast<float>(sign | near_one | 0x7FFFFFU >> noise.below(23));
    case 3:
      return std::bit_cast<float>(sign | near_one | (fraction & ~0U << noise.below(23)));
    case 4:
      return std::bit_cast<float>(sign | static_cast<std::uint32_t>(noise.below(256)) << 23);
    case 5:
      return std::bit_cast<float>(sign | static_cast<std::uint32_t>(1 + noise.below(64)) << 23 | fraction);
    default:
      return std::bit_cast<float>(sign | static_cast<std::uint32_t>(noise.below(256)) << 23 | fraction);
  }
}

// Often what a * b nearly is, or half a unit of it.
float hard_addend(float a, float b, Noise& noise) {
  const float product = a * b;
  switch (noise.below(4)) {
    case 0:
      return -product;
    case 1:
      return std::nextafter(-product, hard_float(noise));
    case 2:
      return std::ldexp(product, static_cast<int>(noise.below(60)) - 30);
    default:
      return hard_float(noise);
  }
}

}  // namespace

TEST_CASE("f32 kernels: fma is one rounding") {
  INFO("seed " << kSeed);
  Noise noise(kSeed);
  CaseStride stride;
  constexpr std::size_t kLanes = 16;
  for (std::size_t repetition = 0; repetition < 200'000; ++repetition) {
    if (!stride.takes_next()) continue;
    const float a = hard_float(noise);
    Floats b(kLanes);
    Floats start(kLanes);
    Floats expected(kLanes);
    for (std::size_t j = 0; j < kLanes; ++j) {
      b[j] = hard_float(noise);
      start[j] = hard_addend(a, b[j], noise);
      expected[j] = std::fma(a, b[j], start[j]);
    }
    for (const auto& each : available_kernels()) {
      Floats c = start;
      each.kernels->multiply(&a, 1, 1, b.begin(), kLanes, kLanes, 1, c.begin(), kLanes);
      for (std::size_t j = 0; j < kLanes; ++j) {
        INFO(each.name << ": " << std::hexfloat << a << " * " << b[j] << " + " << start[j]);
        if (!same(c[j], expected[j])) REQUIRE(c[j] == expected[j]);
      }
    }
  }
}
