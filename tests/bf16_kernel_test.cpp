// Every function of the bf16 kernels on every instruction set that this machine has, against float64. Codes, x and
// scales end with a page behind which nothing is mapped.
#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "available_kernels.hpp"
#include "kernels/cpu/bf16_tiles.h"
#include "kernels/cpu/matmul.h"
#include "matmul_operands.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kSeed = 16;
constexpr double kUnit = 0x1p-24;

std::vector<OfIsa<cdna_bf16_kernels>> available_kernels() {
  return available<cdna_bf16_kernels>({
    {Isa::baseline, cdna_bf16_kernels_baseline},
#if defined(__x86_64__)
        {Isa::avx2, cdna_bf16_kernels_avx2}, {Isa::avx512, cdna_bf16_kernels_avx512},
        {Isa::avx512_bf16, cdna_bf16_kernels_avx512_bf16}, {Isa::amx, cdna_bf16_kernels_amx},
#endif
  });
}

std::vector<std::uint16_t> random_bf16(Random& random, std::size_t count) {
  std::vector<std::uint16_t> values(count);
  for (std::uint16_t& value : values) value = bits_of_bf16(nearest_bf16(static_cast<double>(any_value(random))));
  return values;
}

// m rows of x, each with some room behind it, and what kernels read.
struct X {
  std::vector<std::vector<std::uint16_t>> rows;
  std::size_t stride;
  Guarded<std::uint16_t> packed;

  X(Random& random, std::size_t m, std::size_t count, cdna_order order)
      : rows(random_rows(random, m, count)),
        stride(whole_chunks(count) + CDNA_CHUNK * below(random, 2)),
        packed(without_room(in_packed_order(rows, order, stride), stride - whole_chunks(count))) {}

  static std::vector<std::vector<std::uint16_t>> random_rows(Random& random, std::size_t m, std::size_t count) {
    std::vector<std::vector<std::uint16_t>> rows(m);
    for (auto& row : rows) row = random_bf16(random, count);
    return rows;
  }
  static std::vector<std::uint16_t> without_room(const std::vector<std::uint16_t>& values, std::size_t room) {
    return {values.begin(), values.end() - static_cast<std::ptrdiff_t>(room)};
  }
};

struct Lanes {
  float of[CDNA_DOT_ROWS_MAX][CDNA_SUM_LANES];
};

constexpr int kBefore = 3;  // What is in a lane before.

Lanes lanes_before() {
  Lanes lanes;
  for (auto& row : lanes.of)
    for (float& lane : row) lane = float{kBefore};
  return lanes;
}

// That the first m rows have these sums added, and the others nothing.
void check_sums(const Lanes& lanes, const std::vector<double>& exact, const std::vector<double>& magnitude,
                std::size_t count) {
  constexpr double kBeforeSum = static_cast<double>(kBefore * int{CDNA_SUM_LANES});
  for (std::size_t i = 0; i < CDNA_DOT_ROWS_MAX; ++i) {
    const double expected = kBeforeSum + (i < exact.size() ? exact[i] : 0);
    const double bound =
        i < exact.size() ? static_cast<double>(count + 16) * 2 * kUnit * (magnitude[i] + kBeforeSum) : 0;
    CHECK(std::abs(sum_of(lanes.of[i]) - expected) <= bound);
  }
}

cdna_order order_of(std::uint32_t bits) { return bits == 4 ? CDNA_ORDER_WORD_NIBBLES : CDNA_ORDER_BYTES; }

void check_dot_codes(const cdna_bf16_kernels& kernels, CodeRow& row, bool scaled, X& x) {
  std::vector<double> exact(x.rows.size());
  std::vector<double> magnitude(x.rows.size());
  for (std::size_t i = 0; i < x.rows.size(); ++i) {
    for (std::size_t j = 0; j < row.codes.size(); ++j) {
      const double w = nearest_bf16(static_cast<double>(row.entries[row.codes[j]])) * row.scale(j, scaled);
      exact[i] += value_of_bf16(x.rows[i][j]) * w;
      magnitude[i] += std::abs(value_of_bf16(x.rows[i][j]) * w);
    }
  }
  Lanes lanes = lanes_before();
  const cdna_code_row codes = row.row(scaled);
  kernels.dot_codes(&row.table, &codes, x.packed.data(), x.stride, x.rows.size(), lanes.of);
  check_sums(lanes, exact, magnitude, row.codes.size());
}

// Bits behind the last code, which no file has, do not count either.
void check_decode(const cdna_bf16_kernels& kernels, CodeRow& row, bool scaled) {
  const std::size_t used_bits = row.codes.size() * row.bits % 8;
  if (used_bits != 0)
    row.packed.data()[row.codes.size() * row.bits / 8] |= static_cast<std::uint8_t>(0xFF << used_bits);
  const std::size_t count = whole_chunks(row.codes.size());
  Guarded<std::uint16_t> out(count);
  const cdna_code_row codes = row.row(scaled);
  kernels.decode(&row.table, &codes, out.data());
  std::vector<std::vector<std::uint16_t>> expected(1, std::vector<std::uint16_t>(count));
  for (std::size_t j = 0; j < count; ++j) {
    const float entry = row.entries[j < row.codes.size() ? row.codes[j] : 0];
    const float w = scaled ? entry * row.scales[j / CDNA_SCALE_COLUMNS] : entry;
    expected[0][j] = bits_of_bf16(nearest_bf16(static_cast<double>(w)));
  }
  CHECK(out.values() == in_packed_order(expected, order_of(row.bits), count));
}

}  // namespace

TEST_CASE("bf16 kernels: dot_codes is the float64 sum within the bound, for every size") {
  Random random(kSeed);
  for_sizes(available_kernels(), kSeed, random,
            [&](const cdna_bf16_kernels& kernels, std::uint32_t bits, std::size_t count, std::size_t m) {
              CodeRow row = random_row(random, bits, count);
              X x(random, m, count, order_of(bits));
              check_dot_codes(kernels, row, false, x);
              check_dot_codes(kernels, row, true, x);
            });
}

TEST_CASE("bf16 kernels: decode is the nearest bf16 of every weight, bit for bit, up to a whole chunk") {
  Random random(kSeed);
  for_sizes(available_kernels(), kSeed, random,
            [&](const cdna_bf16_kernels& kernels, std::uint32_t bits, std::size_t count, std::size_t) {
              CodeRow row = random_row(random, bits, count);
              check_decode(kernels, row, false);
              check_decode(kernels, row, true);
            });
}

TEST_CASE("bf16 kernels: dot_values is the float64 sum within the bound, for every size") {
  Random random(kSeed);
  INFO("seed " << kSeed);
  for (const auto& [name, kernels] : available_kernels()) {
    for (std::size_t i = 0; i < 160; ++i) {
      const std::size_t count = i <= 130 ? i : below(random, 20'000);
      const std::size_t m = 1 + i % CDNA_DOT_ROWS_MAX;
      INFO(name << ", " << count << " columns, " << m << " rows of x");
      const std::vector<std::uint16_t> w = random_bf16(random, count);
      X x(random, m, count, CDNA_ORDER_NATURAL);
      std::vector<double> exact(m);
      std::vector<double> magnitude(m);
      for (std::size_t row = 0; row < m; ++row) {
        for (std::size_t j = 0; j < count; ++j) {
          const double product = value_of_bf16(x.rows[row][j]) * value_of_bf16(w[j]);
          exact[row] += product;
          magnitude[row] += std::abs(product);
        }
      }
      Guarded<std::uint16_t> guarded(w);
      Lanes lanes = lanes_before();
      kernels->dot_values(guarded.data(), count, x.packed.data(), x.stride, m, lanes.of);
      check_sums(lanes, exact, magnitude, count);
    }
  }
}

TEST_CASE("bf16 kernels: columns of different scales meet after the scales only") {
  // With x = 1 in one column and scales that no bf16 and no sum of two has, one column's product is exact.
  Random random(kSeed);
  INFO("seed " << kSeed);
  for (const auto& [name, kernels] : available_kernels()) {
    for (std::uint32_t bits = 1; bits <= 8; ++bits) {
      CodeRow row = random_row(random, bits, 256);
      const cdna_code_row codes = row.row(true);
      for (std::size_t column = 0; column < 256; ++column) {
        INFO(name << ", " << bits << " bits, column " << column);
        std::vector<std::vector<std::uint16_t>> x(1, std::vector<std::uint16_t>(256));
        x[0][column] = bits_of_bf16(1.0);
        const std::vector<std::uint16_t> packed = in_packed_order(x, order_of(bits), 256);
        Lanes lanes = {};
        kernels->dot_codes(&row.table, &codes, packed.data(), 256, 1, lanes.of);
        const auto entry = static_cast<float>(nearest_bf16(static_cast<double>(row.entries[row.codes[column]])));
        CHECK(sum_of(lanes.of[0]) == static_cast<double>(entry * row.scales[column / CDNA_SCALE_COLUMNS]));
      }
    }
  }
}

namespace {

// Random bit patterns, and those beside every kind of edge: ties, the ends, subnormals, NaNs.
std::vector<float> floats_to_round(Random& random) {
  std::vector<float> values;
  for (int i = 0; i < 200'000; ++i) values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(random())));
  for (std::uint32_t upper = 0; upper < 0x10000; upper += 1 + upper % 7)
    for (const std::uint32_t lower : {0U, 1U, 0x7FFFU, 0x8000U, 0x8001U, 0xFFFFU})
      values.push_back(std::bit_cast<float>(upper << 16 | lower));
  return values;
}

bool is_rounded(float from, std::uint16_t to) {
  if (std::isnan(from)) return std::isnan(value_of_bf16(to));
  return to == bits_of_bf16(nearest_bf16(static_cast<double>(from)));
}

}  // namespace

TEST_CASE("bf16 kernels: round gives the nearest, ties to even, NaNs stay, for any bits") {
  Random random(kSeed);
  INFO("seed " << kSeed);
  const std::vector<float> values = floats_to_round(random);
  for (const auto& [name, kernels] : available_kernels()) {
    INFO(name);
    std::vector<std::uint16_t> out(values.size());
    kernels->round(values.data(), values.size(), out.data());
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (is_rounded(values[i], out[i])) continue;
      INFO(std::hex << std::bit_cast<std::uint32_t>(values[i]) << " became " << out[i]);
      FAIL_CHECK("not the nearest");
    }
    for (std::size_t count = 0; count <= 130; ++count) {
      Guarded<float> in(std::vector<float>(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(count)));
      Guarded<std::uint16_t> rounded(count);
      kernels->round(in.data(), count, rounded.data());
      CHECK(rounded.values() ==
            std::vector<std::uint16_t>(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(count)));
    }
  }
}

TEST_CASE("bf16 kernels: decode keeps NaNs and infinities, with scales too; subnormals may become 0") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> entries = {
      0.0F, -0.0F, 1.0F, -0x1.fep127F, std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity, 0x1p-120F};
  std::vector<std::uint8_t> codes(128);
  for (std::size_t j = 0; j < codes.size(); ++j) codes[j] = static_cast<std::uint8_t>(j % entries.size());
  CodeRow row(3, codes, entries, {1.0F, 3.0F, 0x1.1p-8F, std::bit_cast<float>(0xFFFFFFFFU)});
  for (const auto& [name, kernels] : available_kernels()) {
    for (const bool scaled : {false, true}) {
      std::vector<std::uint16_t> out(128);
      const cdna_code_row of = row.row(scaled);
      kernels->decode(&row.table, &of, out.data());
      for (std::uint32_t p = 0; p < 128; ++p) {
        const std::uint32_t column = cdna_packed_column(CDNA_ORDER_BYTES, p);
        const float entry = entries[codes[column]];
        const float w = scaled ? entry * row.scales[column / CDNA_SCALE_COLUMNS] : entry;
        INFO(name << ", column " << column << (scaled ? ", scaled" : ""));
        const bool is_flushed = scaled && std::fpclassify(w) == FP_SUBNORMAL && value_of_bf16(out[p]) == 0;
        if (!is_flushed) CHECK(is_rounded(w, out[p]));
      }
    }
  }
}

namespace {

constexpr std::size_t kRowsMost = 40;
constexpr std::size_t kLanesMost = 96;

using Multiply = void (*)(const std::uint16_t* a, std::size_t lda, std::size_t rows, const std::uint16_t* b,
                          std::size_t ldb, std::size_t lanes, std::size_t depth, float* c, std::size_t ldc);

// a [rows, depth], b [depth, lanes], and their product.
struct Factors {
  std::size_t depth;
  std::vector<std::uint16_t> a;
  std::vector<std::uint16_t> b;
  std::vector<double> exact;
  std::vector<double> magnitude;

  Factors(Random& random, std::size_t of_depth)
      : depth(of_depth),
        a(random_bf16(random, kRowsMost * depth)),
        b(random_bf16(random, depth * kLanesMost)),
        exact(kRowsMost * kLanesMost),
        magnitude(exact.size()) {
    for (std::size_t i = 0; i < kRowsMost; ++i)
      for (std::size_t t = 0; t < depth; ++t)
        for (std::size_t j = 0; j < kLanesMost; ++j) {
          const double product = value_of_bf16(a[i * depth + t]) * value_of_bf16(b[t * kLanesMost + j]);
          exact[i * kLanesMost + j] += product;
          magnitude[i * kLanesMost + j] += std::abs(product);
        }
  }
};

// One call, with all operands at the end of a page and room between their rows.
void check_multiply(Multiply multiply, const Factors& of, std::size_t rows, std::size_t lanes, std::size_t room) {
  const std::size_t lda = of.depth + 3 * room;
  const std::size_t ldb = lanes + 16 * room;
  const std::size_t ldc = lanes + 16 * room;
  Guarded<std::uint16_t> a((rows - 1) * lda + of.depth);
  for (std::size_t i = 0; i < rows; ++i)
    std::memcpy(a.data() + i * lda, of.a.data() + i * of.depth, of.depth * sizeof(std::uint16_t));
  Guarded<std::uint16_t> b(2 * ((of.depth / 2 - 1) * ldb + lanes));
  for (std::size_t t = 0; t < of.depth; ++t)
    for (std::size_t j = 0; j < lanes; ++j) b.data()[2 * (t / 2 * ldb + j) + t % 2] = of.b[t * kLanesMost + j];
  Guarded<float> c((rows - 1) * ldc + lanes);
  constexpr float kStart = 2;
  std::fill_n(c.data(), (rows - 1) * ldc + lanes, kStart);
  multiply(a.data(), lda, rows, b.data(), ldb, lanes, of.depth, c.data(), ldc);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < (i + 1 < rows ? ldc : lanes); ++j) {
      const double got = static_cast<double>(c.data()[i * ldc + j]);
      const double start = static_cast<double>(kStart);
      if (j >= lanes) {
        wrong += got != start;
        continue;
      }
      const double magnitude = of.magnitude[i * kLanesMost + j] + start;
      const double bound = static_cast<double>(of.depth + 16) * 2 * kUnit * magnitude;
      wrong += !(std::abs(got - start - of.exact[i * kLanesMost + j]) <= bound);
    }
  }
  INFO(rows << " rows, " << lanes << " lanes, depth " << of.depth << ", room " << room);
  CHECK(wrong == 0);
}

void check_all_shapes(const std::vector<std::pair<std::string_view, Multiply>>& all) {
  Random random(kSeed);
  INFO("seed " << kSeed);
  for (std::size_t depth = 32; depth <= 256; depth += 32) {
    const Factors factors(random, depth);
    for (const auto& [name, multiply] : all) {
      INFO(name);
      for (std::size_t rows = 1; rows <= kRowsMost; ++rows)
        for (std::size_t lanes = 16; lanes <= kLanesMost; lanes += 16)
          check_multiply(multiply, factors, rows, lanes, (rows + depth / 32) % 3);
    }
  }
}

}  // namespace

TEST_CASE("bf16 kernels: multiply is the float64 product within the bound, for every shape") {
  std::vector<std::pair<std::string_view, Multiply>> all;
  for (const auto& [name, kernels] : available_kernels()) all.emplace_back(name, kernels->multiply);
  check_all_shapes(all);
}

namespace {

// The operations of bf16_tiles.h as Intel's manual defines LDTILECFG, TILELOADD, TILESTORED and TDPBF16PS (Intel SDM,
// volume 2), but for the rounding of sums. Anything that would fault on the machine throws.
class PlainTiles {
 public:
  ~PlainTiles() { CHECK(!is_configured_); }

  void configure(const TileShapes& shapes) {
    require(shapes.palette == 1 && shapes.start_row == 0);
    for (const std::uint8_t byte : shapes.reserved) require(byte == 0);
    for (std::size_t tile = 0; tile < 16; ++tile) {
      require(tile < 8 || (shapes.rows[tile] == 0 && shapes.row_bytes[tile] == 0));
      require(shapes.rows[tile] <= 16 && shapes.row_bytes[tile] <= 64);
      require((shapes.rows[tile] == 0) == (shapes.row_bytes[tile] == 0));
    }
    shapes_ = shapes;
    is_configured_ = true;
    std::memset(data_, 0, sizeof data_);
  }
  void release() { is_configured_ = false; }

  template <int kNumber>
  void load(Tile<kNumber>, const void* from, std::size_t row_stride) {
    require_tile(kNumber);
    std::memset(data_[kNumber], 0, sizeof data_[kNumber]);
    for (std::size_t row = 0; row < shapes_.rows[kNumber]; ++row)
      std::memcpy(data_[kNumber][row], static_cast<const std::byte*>(from) + row * row_stride,
                  shapes_.row_bytes[kNumber]);
  }
  template <int kNumber>
  void store(Tile<kNumber>, void* to, std::size_t row_stride) {
    require_tile(kNumber);
    for (std::size_t row = 0; row < shapes_.rows[kNumber]; ++row)
      std::memcpy(static_cast<std::byte*>(to) + row * row_stride, data_[kNumber][row], shapes_.row_bytes[kNumber]);
  }
  template <int kC, int kA, int kB>
  void dot(Tile<kC>, Tile<kA>, Tile<kB>) {
    for (const int tile : {kC, kA, kB}) require_tile(tile);
    static_assert(kC != kA && kC != kB && kA != kB);
    require(shapes_.row_bytes[kA] % 4 == 0 && shapes_.row_bytes[kB] % 4 == 0 && shapes_.row_bytes[kC] % 4 == 0);
    require(shapes_.rows[kC] == shapes_.rows[kA] && shapes_.row_bytes[kA] / 4 == shapes_.rows[kB]);
    require(shapes_.row_bytes[kC] == shapes_.row_bytes[kB]);
    for (std::size_t m = 0; m < shapes_.rows[kC]; ++m)
      for (std::size_t k = 0; k < shapes_.rows[kB]; ++k)
        for (std::size_t n = 0; n < shapes_.row_bytes[kC] / 4; ++n) {
          float sum = element<float>(kC, m, n);
          for (std::size_t i = 0; i < 2; ++i)
            sum += static_cast<float>(value_of_bf16(element<std::uint16_t>(kA, m, 2 * k + i)) *
                                      value_of_bf16(element<std::uint16_t>(kB, k, 2 * n + i)));
          std::memcpy(data_[kC][m] + 4 * n, &sum, sizeof sum);
        }
  }

 private:
  static void require(bool holds) {
    if (!holds) throw std::logic_error("a fault on the machine");
  }
  void require_tile(int tile) const { require(is_configured_ && shapes_.rows[tile] > 0); }
  template <class T>
  T element(int tile, std::size_t row, std::size_t index) const {
    T value;
    std::memcpy(&value, data_[tile][row] + index * sizeof value, sizeof value);
    return value;
  }

  bool is_configured_ = false;
  TileShapes shapes_ = {};
  std::byte data_[8][16][64] = {};
};

void multiply_in_plain_tiles(const std::uint16_t* a, std::size_t lda, std::size_t rows, const std::uint16_t* b,
                             std::size_t ldb, std::size_t lanes, std::size_t depth, float* c, std::size_t ldc) {
  PlainTiles tiles;
  multiply_in_tiles(tiles, {a, lda, b, ldb, depth, c, ldc}, rows, lanes);
}

}  // namespace

TEST_CASE("bf16 kernels: multiply in tiles is the float64 product on tiles by the manual") {
  check_all_shapes({{"plain tiles", multiply_in_plain_tiles}});
}
