// Every function of the bf16 kernels on every instruction set that this machine has, against float64. Codes, x and
// scales end with a page behind which nothing is mapped.
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "cdna/cpu.hpp"
#include "kernels/cpu/matmul.h"
#include "matmul_operands.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kSeed = 16;
constexpr double kUnit = 0x1p-24;

std::vector<OfIsa<cdna_bf16_kernels>> available_kernels() {
  std::vector<OfIsa<cdna_bf16_kernels>> all{{name_of(Isa::baseline), cdna_bf16_kernels_baseline()}};
#if defined(__x86_64__)
  if (is_available(Isa::avx2)) all.push_back({name_of(Isa::avx2), cdna_bf16_kernels_avx2()});
  if (is_available(Isa::avx512)) all.push_back({name_of(Isa::avx512), cdna_bf16_kernels_avx512()});
  if (is_available(Isa::avx512_bf16)) all.push_back({name_of(Isa::avx512_bf16), cdna_bf16_kernels_avx512_bf16()});
  if (is_available(Isa::amx)) all.push_back({name_of(Isa::amx), cdna_bf16_kernels_amx()});
#endif
  return all;
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
  static std::vector<std::uint16_t> without_room(std::vector<std::uint16_t> values, std::size_t room) {
    values.resize(values.size() - room);
    return values;
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

// Calls body(kernels, bits, count, m) for all counts to 130 and some more.
template <class Body>
void for_sizes(Random& random, const Body& body) {
  INFO("seed " << kSeed);
  for (const auto& [name, kernels] : available_kernels()) {
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

void check_decode(const cdna_bf16_kernels& kernels, CodeRow& row, bool scaled) {
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
  for_sizes(random, [&](const cdna_bf16_kernels& kernels, std::uint32_t bits, std::size_t count, std::size_t m) {
    CodeRow row = random_row(random, bits, count);
    X x(random, m, count, order_of(bits));
    check_dot_codes(kernels, row, false, x);
    check_dot_codes(kernels, row, true, x);
  });
}

TEST_CASE("bf16 kernels: decode is the nearest bf16 of every weight, bit for bit, up to a whole chunk") {
  Random random(kSeed);
  for_sizes(random, [&](const cdna_bf16_kernels& kernels, std::uint32_t bits, std::size_t count, std::size_t) {
    CodeRow row = random_row(random, bits, count);
    check_decode(kernels, row, false);
    check_decode(kernels, row, true);
  });
}
