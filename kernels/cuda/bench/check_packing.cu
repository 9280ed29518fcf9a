// pack.h: codes and scales from the file's order to tiles, element by element, and matrices back to numbers.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "../pack.h"
#include "check.h"

namespace cdna_cuda {
namespace {

constexpr std::uint64_t kSeed = 77;

unsigned plain_code(unsigned bits, std::uint32_t row, std::uint32_t column) {
  return static_cast<unsigned>(random_bits(kSeed, row, column) >> 20) & ((1U << bits) - 1);
}

// Rows of codes as the file has them (spec/format.md 8.2): bit strings, low bits first, padded to bytes.
std::vector<unsigned char> plane(unsigned bits, std::uint32_t rows, std::uint32_t cols) {
  const std::size_t row_bytes = (std::size_t{cols} * bits + 7) / 8;
  std::vector<unsigned char> bytes(rows * row_bytes);
  for (std::uint32_t row = 0; row < rows; ++row) {
    for (std::uint32_t column = 0; column < cols; ++column) {
      for (unsigned bit = 0; bit < bits; ++bit) {
        const std::size_t place = std::size_t{column} * bits + bit;
        const unsigned value = plain_code(bits, row, column) >> bit & 1U;
        unsigned char& byte = bytes[row * row_bytes + place / 8];
        byte = static_cast<unsigned char>(byte | value << place % 8);
      }
    }
  }
  return bytes;
}

// The code of an element, read from tiles.
unsigned packed_code(unsigned bits, const std::vector<std::uint32_t>& tiles, std::uint32_t cols, std::uint32_t row,
                     std::uint32_t column) {
  const std::size_t tile = row / kTileRows * tiles_of_columns(cols) + column / kTileColumns;
  const FragmentPlace place = fragment_place(row % kTileRows, column % kTileColumns);
  std::uint32_t words[8] = {};
  for (unsigned w = 0; w < bits; ++w) {
    const std::size_t byte = word_offset(bits, place.lane, word_place(bits, place.half, w));
    words[w] = tiles[(tile * tile_bytes(bits) + byte) / 4];
  }
  return code_of(bits, words, place.step, place.j);
}

void check_codes(unsigned source_bits, std::uint32_t rows, std::uint32_t cols, Tally* tally) {
  const unsigned bits = device_bits(source_bits);
  const DeviceArray<unsigned char> source(plane(source_bits, rows, cols));
  const DeviceArray<std::uint32_t> tiles(tiles_of_rows(rows) * tiles_of_columns(cols) * tile_bytes(bits) / 4);
  tiles.fill(0);
  PackCodes call;
  call.row_bytes = (std::uint64_t{cols} * source_bits + 7) / 8;
  call.source_bits = source_bits;
  call.column_count = cols;
  call.cols = cols;
  call.tiles = tiles.data();
  // In two parts, cut inside a tile.
  const std::uint32_t cut = rows / 2;
  for (const std::uint32_t begin : {0U, cut}) {
    call.row_begin = begin;
    call.row_count = begin == 0 ? cut : rows - cut;
    call.source = source.data() + begin * call.row_bytes;
    if (call.row_count == 0) continue;
    const Outcome outcome = pack_codes(call, nullptr);
    tally->check(outcome.status == Status::ok, "packing codes of %u bits: %s", source_bits, outcome.reason);
  }
  require(cudaDeviceSynchronize(), "packing codes");
  const std::vector<std::uint32_t> packed = tiles.host();
  std::uint64_t wrong = 0;
  for (std::uint32_t row = 0; row < kTileRows * tiles_of_rows(rows); ++row) {
    for (std::uint32_t column = 0; column < kTileColumns * tiles_of_columns(cols); ++column) {
      const bool inside = row < rows && column < cols;
      const unsigned expected = inside ? plain_code(source_bits, row, column) : 0;
      wrong += packed_code(bits, packed, cols, row, column) != expected;
    }
  }
  tally->check(wrong == 0, "codes of %u bits [%u, %u]: %llu are at other places", source_bits, rows, cols,
               static_cast<unsigned long long>(wrong));
}

void check_scales(ScaleType type, std::uint32_t group, std::uint32_t rows, std::uint32_t cols, Tally* tally) {
  const std::size_t size = type == ScaleType::u8 ? 1 : 4;
  const std::uint32_t groups = (cols + group - 1) / group;
  std::vector<unsigned char> plain(std::size_t{rows} * groups * size);
  for (std::size_t i = 0; i < plain.size(); ++i) plain[i] = static_cast<unsigned char>(random_bits(kSeed, i, 1) >> 9);
  const DeviceArray<unsigned char> source(plain);
  const std::uint64_t per_tile = kTileColumns / group;
  const DeviceArray<unsigned char> scales(tiles_of_rows(rows) * tiles_of_columns(cols) * kTileRows * per_tile * size);
  scales.fill(0);
  PackScales call;
  call.source = source.data();
  call.type = type;
  call.row_count = rows;
  call.cols = cols;
  call.group = group;
  call.scales = scales.data();
  const Outcome outcome = pack_scales(call, nullptr);
  tally->check(outcome.status == Status::ok, "packing scales: %s", outcome.reason);
  require(cudaDeviceSynchronize(), "packing scales");
  const std::vector<unsigned char> packed = scales.host();
  std::uint64_t wrong = 0;
  for (std::uint32_t row = 0; row < kTileRows * tiles_of_rows(rows); ++row) {
    for (std::uint32_t g = 0; g < per_tile * tiles_of_columns(cols); ++g) {
      const std::uint64_t tile = row / kTileRows * tiles_of_columns(cols) + g / per_tile;
      const std::uint64_t place = (tile * kTileRows + row % kTileRows) * per_tile + g % per_tile;
      for (std::size_t byte = 0; byte < size; ++byte) {
        const bool inside = row < rows && g < groups;
        const unsigned expected = inside ? plain[(std::size_t{row} * groups + g) * size + byte] : 0;
        wrong += packed[place * size + byte] != expected;
      }
    }
  }
  tally->check(wrong == 0, "scales of %u columns [%u, %u]: %llu bytes are wrong", group, rows, cols,
               static_cast<unsigned long long>(wrong));
}

// Values of spec/format.md 13.2: exactly in f32, within half a unit otherwise.
void check_dequantise(const Preset& preset, Float type, Tally* tally) {
  constexpr std::uint32_t kRows = 40;
  constexpr std::uint32_t kCols = 300;
  constexpr std::uint32_t kBegin = 7;
  constexpr std::uint32_t kEnd = 39;
  const Matrix matrix(preset, kRows, kCols, kSeed);
  const Output out(type, kEnd - kBegin, kCols + 3);
  Dequantise call;
  call.weights = matrix.weights();
  call.row_begin = kBegin;
  call.row_end = kEnd;
  call.out = out.data();
  call.type = type;
  call.stride = out.stride();
  const Outcome outcome = dequantise(call, nullptr);
  tally->check(outcome.status == Status::ok, "%s: dequantising: %s", preset.name, outcome.reason);
  require(cudaDeviceSynchronize(), "dequantising");
  const std::vector<unsigned char> bytes = out.host();
  const Recipe recipe = matrix.host_recipe();
  const double half_unit = type == Float::f32 ? 0 : type == Float::f16 ? 0x1p-11 : 0x1p-8;
  std::uint64_t wrong = 0;
  for (std::uint32_t row = kBegin; row < kEnd; ++row) {
    for (std::uint32_t column = 0; column < kCols + 3; ++column) {
      const std::size_t place = std::size_t{row - kBegin} * (kCols + 3) + column;
      if (column >= kCols) {
        for (std::size_t byte = 0; byte < size_of(type); ++byte) wrong += bytes[place * size_of(type) + byte] != 0xFF;
        continue;
      }
      const double exact = static_cast<double>(value_at(recipe, row, column));
      const double error = std::abs(static_cast<double>(element(bytes.data(), type, place)) - exact);
      const double subnormal = type == Float::f16 ? 0x1p-25 : 0;
      wrong += !(error <= std::max(half_unit * std::abs(exact), subnormal));
    }
  }
  tally->check(wrong == 0, "%s: %llu of the dequantised %s elements are wrong", preset.name,
               static_cast<unsigned long long>(wrong), name_of(type));
}

}  // namespace

void check_packing(const CheckOptions& options, Tally* tally) {
  tally->begin_section();
  const std::uint32_t rows = options.tiny ? 21 : 261;
  for (const std::uint32_t cols : {1U, 130U, 384U}) {
    for (unsigned bits = 1; bits <= 8; ++bits) check_codes(bits, rows, cols, tally);
    for (const std::uint32_t group : {32U, 64U, 128U}) {
      check_scales(ScaleType::u8, group, rows, cols, tally);
      check_scales(ScaleType::f32, group, rows, cols, tally);
    }
  }
  for (const Preset& preset : presets()) {
    if (!options.preset.empty() && options.preset != preset.name) continue;
    for (const Float type : {Float::f16, Float::bf16, Float::f32}) {
      // f16 has no number for these.
      if (!(preset.huge_outliers && type == Float::f16)) check_dequantise(preset, type, tally);
    }
  }
  std::printf("packing and dequantising: %u passed, %u failed\n", tally->passed(), tally->failed());
  std::fflush(stdout);
}

}  // namespace cdna_cuda
