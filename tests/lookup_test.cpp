// Tables of a codebook: which ones are said to lie on lines, by all the lines that there are, and that every kernel
// finds every entry in them.
#include "libcdna/decode/lookup.hpp"

#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "available_kernels.hpp"
#include "case_stride.hpp"
#include "kernels/cpu/matmul.h"
#include "pwl_entries.hpp"
#include "random.hpp"
#include "small_floats.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kSeed = 1971;

float widened(std::uint16_t half) { return static_cast<float>(value_of_f16(half)); }

std::uint16_t half_of(float value) { return f16_of(static_cast<double>(value)); }

std::uint16_t word_of(const std::uint8_t (&low)[16], const std::uint8_t (&high)[16], std::size_t line) {
  return static_cast<std::uint16_t>(low[line] | high[line] << 8);
}

std::uint16_t base_of(const cdna_lookup& table, std::size_t line) {
  return word_of(table.pwl_planes[0], table.pwl_planes[1], line);
}

std::uint16_t step_of(const cdna_lookup& table, std::size_t line) {
  return word_of(table.pwl_planes[2], table.pwl_planes[3], line);
}

bool is_normal_or_zero(std::uint16_t half) {
  const std::uint32_t exponent = half >> 10 & 31U;
  return (half & 0x7FFFU) == 0 || (exponent >= 1 && exponent <= 30);
}

// The entries that a table's lines state, by the format's own words.
std::vector<float> entries_of_lines(const cdna_lookup& table) {
  std::vector<float> entries;
  for (std::size_t line = 0; line < kLines; ++line) {
    for (const float entry : entries_on_line(base_of(table, line), step_of(table, line))) entries.push_back(entry);
  }
  return entries;
}

// Whether any normal step, or 0, leads from the first of 16 entries to the others: all of them are tried.
bool is_line(const float* entries) {
  const std::uint16_t base = half_of(entries[0]);
  for (std::uint32_t step = 0; step < 65536; ++step) {
    const auto half = static_cast<std::uint16_t>(step);
    if (!is_normal_or_zero(half) || widened(f16_of(sum_on_line(base, half, 1))) != entries[1]) continue;
    const std::vector<float> line = entries_on_line(base, half);
    if (std::equal(line.begin(), line.end(), entries)) return true;
  }
  return false;
}

// Bases are 1.5 and -1.5 times a power of two, steps a quarter of it: no unit in the last place can be spared.
std::vector<float> steep_lines() {
  std::vector<float> entries;
  for (std::size_t line = 0; line < kLines; ++line) {
    const std::size_t sign = line % 2 << 15;
    const std::size_t exponent = 8 + line / 2;
    const auto base = static_cast<std::uint16_t>(sign | exponent << 10 | 512);
    const auto step = static_cast<std::uint16_t>(sign | (exponent - 2) << 10);
    for (const float entry : entries_on_line(base, step)) entries.push_back(entry);
  }
  return entries;
}

std::vector<OfIsa<cdna_f32_kernels>> f32_kernels() {
  return available<cdna_f32_kernels>({
    {Isa::baseline, cdna_f32_kernels_baseline},
#if defined(__x86_64__)
        {Isa::avx2, cdna_f32_kernels_avx2}, {Isa::avx512, cdna_f32_kernels_avx512},
#endif
  });
}

// Every code once, decoded; the bits must be those of the entries.
void check_decoding(const cdna_lookup& table, const std::vector<float>& entries) {
  std::vector<std::uint8_t> codes(256);
  for (std::size_t code = 0; code < codes.size(); ++code) codes[code] = static_cast<std::uint8_t>(code);
  const cdna_code_row row = {codes.data(), codes.size(), nullptr};
  for (const auto& each : f32_kernels()) {
    INFO(each.name);
    std::vector<float> out(256);
    each.kernels->decode(&table, &row, out.data());
    bool right = true;
    for (std::uint32_t p = 0; p < 256; ++p) {
      const std::uint32_t column =
          p / CDNA_CHUNK * CDNA_CHUNK + cdna_packed_column(CDNA_ORDER_EVEN_ODD, p % CDNA_CHUNK);
      right &= std::bit_cast<std::uint32_t>(out[p]) == std::bit_cast<std::uint32_t>(entries[column]);
    }
    CHECK(right);
  }
}

// What holds for every codebook; returns whether it is said to lie on lines.
bool check_table(const std::vector<float>& entries) {
  const auto table = make_lookup(entries);
  check_decoding(*table, entries);
  if (table->is_pwl == 0) return false;
  CHECK(table->is_pwl == 1);
  CHECK(entries_of_lines(*table) == entries);
  for (std::size_t line = 0; line < kLines; ++line) {
    CHECK(widened(base_of(*table, line)) == entries[kLines * line]);
    CHECK(is_normal_or_zero(step_of(*table, line)));
  }
  return true;
}

// The next binary16, away from 0 or towards it.
float moved_by(float entry, int units) {
  return widened(static_cast<std::uint16_t>(half_of(entry) + static_cast<unsigned>(units)));
}

}  // namespace

TEST_CASE("lookup: lines are found from the entries, and state each of them") {
  INFO("seed " << kSeed);
  Noise noise(kSeed);
  CaseStride stride;
  for (int repetition = 0; repetition < 2000; ++repetition) {
    const PwlEntries book = random_pwl_entries(noise);
    if (stride.takes_next()) CHECK(check_table(book.entries));
  }
}

TEST_CASE("lookup: an entry that is off by a unit in the last place is on no line") {
  for (std::size_t code = 0; code < 256; ++code) {
    for (const int units : {-1, 1}) {
      INFO("entry " << code << ", " << units);
      std::vector<float> entries = steep_lines();
      entries[code] = moved_by(entries[code], units);
      CHECK(!is_line(entries.data() + code / kLines * kLines));
      CHECK(!check_table(entries));
    }
  }
  CHECK(check_table(steep_lines()));
}

TEST_CASE("lookup: where an entry is off and there are no lines, none are found") {
  INFO("seed " << kSeed);
  Noise noise(kSeed);
  CaseStride stride;
  int found = 0;
  int absent = 0;
  for (int repetition = 0; repetition < 300; ++repetition) {
    std::vector<float> entries = random_pwl_entries(noise).entries;
    const std::size_t code = noise.below(256);
    entries[code] = moved_by(entries[code], noise.below(2) == 0 ? 1 : -1);
    if (!stride.takes_next()) continue;
    INFO("repetition " << repetition << ", entry " << code);
    const bool is_found = check_table(entries);
    const bool exists = is_line(entries.data() + code / kLines * kLines);
    CHECK((exists || !is_found));
    found += is_found;
    absent += !exists;
  }
  INFO(found << " found, " << absent << " absent");
  CHECK(absent > 0);
}

TEST_CASE("lookup: entries that only a subnormal step leads to are on no line") {
  std::vector<float> entries = steep_lines();
  const std::uint16_t least_normal = 0x0400;
  for (const std::uint16_t step : std::initializer_list<std::uint16_t>{0x0003, 0x0040, 0x03FF}) {
    const std::vector<float> line = entries_on_line(least_normal, step);
    std::copy(line.begin(), line.end(), entries.begin() + 5 * kLines);
    INFO("step " << step);
    CHECK(!check_table(entries));
  }
  const std::vector<float> line = entries_on_line(least_normal, least_normal);
  std::copy(line.begin(), line.end(), entries.begin() + 5 * kLines);
  CHECK(check_table(entries));
}

TEST_CASE("lookup: entries that are 0, subnormal, infinite or no binary16 numbers are on no lines") {
  for (const float odd : {0.0F, -0.0F, 0x1p-24F, -0x1.8p-15F, 65536.0F, 0x1.004p0F, 0x1p-30F}) {
    for (const std::size_t code : {std::size_t{0}, std::size_t{17}, std::size_t{255}}) {
      std::vector<float> entries = steep_lines();
      entries[code] = odd;
      INFO("entry " << code << " is " << odd);
      CHECK(!check_table(entries));
    }
  }
}

TEST_CASE("lookup: free codebooks are on no lines") {
  INFO("seed " << kSeed);
  Noise noise(kSeed);
  CaseStride stride;
  for (int repetition = 0; repetition < 1000; ++repetition) {
    std::vector<float> entries;
    for (int code = 0; code < 256; ++code) entries.push_back(widened(f16_of(noise.gaussian())));
    std::sort(entries.begin(), entries.end());
    if (stride.takes_next()) CHECK(!check_table(entries));
  }
}

TEST_CASE("lookup: one line is 16 lines where every sixteenth entry is exact") {
  std::vector<float> entries;
  for (int code = 0; code < 256; ++code) entries.push_back(static_cast<float>(2 * code - 255) / 256);
  CHECK(check_table(entries));
}

TEST_CASE("lookup: only codebooks of 256 entries are on lines") {
  for (const std::size_t size : {2U, 16U, 32U, 64U, 128U}) {
    const std::vector<float> entries(size, 0.5F);
    CHECK(make_lookup(entries)->is_pwl == 0);
  }
  CHECK(check_table(std::vector<float>(256, 0.5F)));
}
