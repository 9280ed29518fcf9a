// The int8 kernels on every instruction set that this machine has, against integers. Codes, x and scales end with a
// page behind which nothing is mapped.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "available_kernels.hpp"
#include "kernels/cpu/matmul.h"
#include "matmul_operands.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kSeed = 8;
constexpr double kUnit = 0x1p-24;

std::vector<OfIsa<cdna_int8_kernels>> available_kernels() {
  return available<cdna_int8_kernels>({
    {Isa::baseline, cdna_int8_kernels_baseline},
#if defined(__x86_64__)
        {Isa::avx2, cdna_int8_kernels_avx2}, {Isa::avx512, cdna_int8_kernels_avx512},
#endif
  });
}

cdna_order order_of(std::uint32_t bits) { return bits == 4 ? CDNA_ORDER_BYTE_NIBBLES : CDNA_ORDER_NATURAL; }

// Rows of x with a scale per 64 columns.
struct X {
  std::vector<std::vector<std::int8_t>> rows;
  std::vector<float> scales;
  std::size_t stride;
  std::size_t scale_stride;
  Guarded<std::int8_t> packed;
  Guarded<float> guarded_scales;

  X(std::vector<std::vector<std::int8_t>> of, std::vector<float> by, cdna_order order)
      : rows(std::move(of)),
        scales(std::move(by)),
        stride(whole_chunks(rows[0].size())),
        scale_stride(stride / 64),
        packed(in_packed_order(rows, order, stride)),
        guarded_scales(scales) {}
  double scale(std::size_t row, std::size_t column) const {
    return static_cast<double>(scales[row * scale_stride + column / 64]);
  }
};

int between(Random& random, int most) {
  return static_cast<int>(below(random, 2 * static_cast<std::size_t>(most) + 1)) - most;
}

std::vector<std::vector<std::int8_t>> random_rows(Random& random, std::size_t m, std::size_t count, int most) {
  std::vector<std::vector<std::int8_t>> rows(m, std::vector<std::int8_t>(count));
  for (auto& row : rows)
    for (std::int8_t& x : row) x = static_cast<std::int8_t>(between(random, most));
  return rows;
}

std::vector<float> ones_and_twos(Random& random, std::size_t count) {
  std::vector<float> scales(count);
  for (float& scale : scales) scale = static_cast<float>(1 + below(random, 2));
  return scales;
}

// Entry 0 is -32767: all entries are the integers of the table.
std::vector<float> integers(Random& random, std::uint32_t bits, int most) {
  std::vector<float> entries(std::size_t{1} << bits);
  for (float& entry : entries) entry = static_cast<float>(between(random, most));
  entries[0] = -32767;
  return entries;
}

double fixed_of(const CodeRow& row, std::size_t column) {
  const std::uint8_t code = row.codes[column];
  return row.table.fixed_planes[0][code] + 256.0 * row.table.fixed_planes[1][code] - 32768.0;
}

// Adds to lanes that have 1 each. Rows that are not asked for keep theirs.
void check_sums(const cdna_int8_kernels& kernels, CodeRow& row, bool scaled, X& x, double relative_bound) {
  float sums[CDNA_DOT_ROWS_MAX][CDNA_SUM_LANES];
  for (auto& lanes : sums) std::fill_n(lanes, int{CDNA_SUM_LANES}, 1.0F);
  const cdna_code_row codes = row.row(scaled);
  kernels.dot_codes(&row.table, &codes, x.packed.data(), x.stride, x.guarded_scales.data(), x.scale_stride,
                    x.rows.size(), sums);
  for (std::size_t i = 0; i < CDNA_DOT_ROWS_MAX; ++i) {
    double exact = int{CDNA_SUM_LANES};
    double magnitude = exact;
    for (std::size_t j = 0; i < x.rows.size() && j < row.codes.size(); ++j) {
      const double product = x.rows[i][j] * x.scale(i, j) * fixed_of(row, j) * row.scale(j, scaled);
      exact += product;
      magnitude += std::abs(product);
    }
    CHECK(std::abs(sum_of(sums[i]) - exact) <= relative_bound * magnitude);
  }
}

}  // namespace

namespace {

// At most 300 columns are 20 in a lane, whose sums stay below 2^24.
void check_integers(const cdna_int8_kernels& kernels, Random& random, std::size_t count, std::size_t m,
                    const std::vector<float>& entries, std::size_t first_code, int x_most) {
  const auto bits = static_cast<std::uint32_t>(std::lround(std::log2(entries.size())));
  const std::size_t chunks = whole_chunks(count) / CDNA_CHUNK;
  std::vector<std::uint8_t> codes(count);
  for (std::uint8_t& code : codes)
    code = static_cast<std::uint8_t>(first_code + below(random, entries.size() - first_code));
  CodeRow row(bits, codes, entries, ones_and_twos(random, 4 * chunks));
  X x(random_rows(random, m, count, x_most), ones_and_twos(random, 2 * chunks * m), order_of(bits));
  check_sums(kernels, row, false, x, 0);
  check_sums(kernels, row, true, x, 0);
}

}  // namespace

TEST_CASE("int8 kernels: integers are summed exactly, with large weights and with large x") {
  Random random(kSeed);
  for_sizes(available_kernels(), kSeed, random,
            [&](const cdna_int8_kernels& kernels, std::uint32_t bits, std::size_t count, std::size_t m) {
              const std::size_t few = count % 301;
              check_integers(kernels, random, few, m, integers(random, bits, 32767), 0, 3);
              check_integers(kernels, random, few, m, integers(random, bits, 255), 1, 127);
            });
}

TEST_CASE("int8 kernels: dot_codes is the float64 sum within the bound, for every size") {
  Random random(kSeed);
  for_sizes(available_kernels(), kSeed, random,
            [&](const cdna_int8_kernels& kernels, std::uint32_t bits, std::size_t count, std::size_t m) {
              CodeRow row = random_row(random, bits, count);
              std::vector<float> x_scales(whole_chunks(count) / 64 * m);
              for (float& scale : x_scales) scale = std::abs(any_value(random));
              X x(random_rows(random, m, count, 127), x_scales, order_of(bits));
              const double bound = static_cast<double>(count + 16) * 2 * kUnit;
              check_sums(kernels, row, false, x, bound);
              check_sums(kernels, row, true, x, bound);
            });
}

TEST_CASE("int8 kernels: the largest numbers of either sign do not overflow") {
  for (const auto& [name, kernels] : available_kernels()) {
    for (const std::uint32_t bits : {1U, 4U, 7U, 8U}) {
      for (const int code : {0, 1}) {
        for (const int x_value : {-127, 127}) {
          INFO(name << ", " << bits << " bits, code " << code << ", x " << x_value);
          const std::size_t count = 256;
          std::vector<float> entries(std::size_t{1} << bits, 1.0F);
          entries[0] = -1.0F;
          CodeRow row(bits, std::vector<std::uint8_t>(count, static_cast<std::uint8_t>(code)), entries,
                      std::vector<float>(8, 1.0F));
          X x({std::vector<std::int8_t>(count, static_cast<std::int8_t>(x_value))}, std::vector<float>(4, 1.0F),
              order_of(bits));
          check_sums(*kernels, row, true, x, 64 * kUnit);
        }
      }
    }
  }
}
