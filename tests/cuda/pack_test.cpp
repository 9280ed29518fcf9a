// Codes and scales brought in order on the device are where layout.h says, and nothing else is touched.
#include "kernels/cuda/pack.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "device_array.hpp"
#include "kernels/cuda/decode.h"
#include "kernels/cuda/emulator/emulator.h"
#include "tests/random.hpp"

using namespace cdna_cuda;
using cdna::test::DeviceArray;
using cdna::test::Random;

namespace {

constexpr unsigned char kUntouched = 0xA5;

// A matrix of codes, and its rows as a file has them.
struct Codes {
  std::uint32_t rows;
  std::uint32_t cols;
  unsigned bits;
  std::vector<std::uint8_t> codes;

  Codes(std::uint32_t row_count, std::uint32_t column_count, unsigned code_bits, std::uint64_t seed)
      : rows(row_count), cols(column_count), bits(code_bits) {
    Random random(seed);
    for (std::uint64_t i = 0; i < std::uint64_t{rows} * cols; ++i)
      codes.push_back(static_cast<std::uint8_t>(random.below(std::uint64_t{1} << bits)));
  }
  std::uint8_t at(std::uint32_t row, std::uint32_t column) const { return codes[std::size_t{row} * cols + column]; }
  // Of columns [begin, end) of rows [row_begin, row_end), row_bytes apart.
  std::vector<std::uint8_t> bit_strings(std::uint32_t row_begin, std::uint32_t row_end, std::uint32_t begin,
                                        std::uint32_t end, std::size_t row_bytes) const {
    std::vector<std::uint8_t> out(row_bytes * (row_end - row_begin - 1) + ((end - begin) * bits + 7) / 8);
    for (std::uint32_t row = row_begin; row < row_end; ++row) {
      for (std::uint32_t i = 0; i < (end - begin) * bits; ++i) {
        const unsigned bit = at(row, begin + i / bits) >> i % bits & 1U;
        out[(row - row_begin) * row_bytes + i / 8] |= static_cast<std::uint8_t>(bit << i % 8);
      }
    }
    return out;
  }
};

// The code in tiles at a place, read by code_of() from the words where layout.h says that they are.
std::uint32_t code_in_tiles(const std::vector<unsigned char>& tiles, const Codes& codes, std::uint32_t row,
                            std::uint32_t column) {
  const unsigned bits = device_bits(codes.bits);
  const unsigned char* const tile =
      tiles.data() + (row / kTileRows * tiles_of_columns(codes.cols) + column / kTileColumns) * tile_bytes(bits);
  const FragmentPlace place = fragment_place(row % kTileRows, column % kTileColumns);
  std::uint32_t words[8];
  for (unsigned i = 0; i < bits; ++i)
    std::memcpy(&words[i], tile + word_offset(bits, place.lane, word_place(bits, place.half, i)), 4);
  return code_of(bits, words, place.step, place.j);
}

// What tiles hold after packing rows [row_begin, row_end), by pack_words; elsewhere kUntouched.
std::vector<unsigned char> expected_tiles(const Codes& codes, std::uint32_t row_begin, std::uint32_t row_end) {
  const unsigned bits = device_bits(codes.bits);
  const std::uint64_t column_tiles = tiles_of_columns(codes.cols);
  std::vector<unsigned char> out(tiles_of_rows(codes.rows) * column_tiles * tile_bytes(bits), kUntouched);
  for (std::uint32_t row = row_begin; row < row_end; ++row) {
    for (std::uint32_t tile = 0; tile < column_tiles; ++tile) {
      for (unsigned t = 0; t < 4; ++t) {
        const unsigned lane = 4 * (row % 8) + t;
        const unsigned half = row % kTileRows / 8;
        std::uint8_t own[32];
        for (unsigned i = 0; i < 32; ++i) {
          const std::uint32_t column = tile * kTileColumns + column_of({lane, half, i / 4, i % 4});
          own[i] = column < codes.cols ? codes.at(row, column) : std::uint8_t{0};
        }
        std::uint32_t words[8];
        pack_words(bits, own, words);
        unsigned char* const to = out.data() + (row / kTileRows * column_tiles + tile) * tile_bytes(bits);
        for (unsigned w = 0; w < bits; ++w)
          std::memcpy(to + word_offset(bits, lane, word_place(bits, half, w)), &words[w], 4);
      }
    }
  }
  return out;
}

PackCodes call_of(const Codes& codes, std::uint32_t row_begin, std::uint32_t row_end) {
  PackCodes call;
  call.source_bits = codes.bits;
  call.row_begin = row_begin;
  call.row_count = row_end - row_begin;
  call.column_count = codes.cols;
  call.cols = codes.cols;
  return call;
}

// Packs columns [begin, end) of the rows, with `slack` bytes between rows, at any alignment.
void pack_range(const Codes& codes, std::uint32_t row_begin, std::uint32_t row_end, std::uint32_t begin,
                std::uint32_t end, std::size_t slack, void* tiles) {
  const std::size_t row_bytes = ((end - begin) * codes.bits + 7) / 8 + slack;
  std::vector<std::uint8_t> source(slack, 0xFF);
  const auto rows = codes.bit_strings(row_begin, row_end, begin, end, row_bytes);
  source.insert(source.end(), rows.begin(), rows.end());
  const DeviceArray<std::uint8_t> on_device(source);
  PackCodes call = call_of(codes, row_begin, row_end);
  call.source = on_device.get() + slack;
  call.row_bytes = row_bytes;
  call.column_begin = begin;
  call.column_count = end - begin;
  call.tiles = tiles;
  const Outcome outcome = pack_codes(call, nullptr);
  INFO(outcome.reason);
  REQUIRE(outcome.status == Status::ok);
  cdna::test::must_succeed(cudaDeviceSynchronize());
}

}  // namespace

TEST_CASE("pack: codes of every width and shape are where the layout says") {
  for (unsigned bits = 1; bits <= 8; ++bits) {
    for (const auto& [rows, cols] : {std::pair{1U, 1U}, {16U, 128U}, {17U, 129U}, {5U, 31U}, {40U, 300U}, {8U, 512U}}) {
      const Codes codes(rows, cols, bits, bits * 1000 + cols);
      CAPTURE(bits, rows, cols);
      DeviceArray<unsigned char> tiles(expected_tiles(codes, 0, 0).size());
      tiles.fill(kUntouched);
      pack_range(codes, 0, rows, 0, cols, bits % 3, tiles.get());
      const std::vector<unsigned char> found = tiles.values();
      REQUIRE(found == expected_tiles(codes, 0, rows));
      bool right = true;
      for (std::uint32_t row = 0; row < rows; ++row) {
        for (std::uint32_t column = 0; column < cols; ++column)
          right = right && code_in_tiles(found, codes, row, column) == codes.at(row, column);
      }
      REQUIRE(right);
    }
  }
  CHECK(emulator::leaks().empty());
  CHECK(emulator::failure().empty());
}

TEST_CASE("pack: rows that begin anywhere touch nothing but their own words") {
  for (unsigned bits = 1; bits <= 8; ++bits) {
    const Codes codes(41, 200, bits, bits);
    for (const auto& [begin, end] : {std::pair{0U, 3U}, {3U, 20U}, {7U, 8U}, {9U, 41U}, {40U, 41U}}) {
      CAPTURE(bits, begin, end);
      DeviceArray<unsigned char> tiles(expected_tiles(codes, 0, 0).size());
      tiles.fill(kUntouched);
      pack_range(codes, begin, end, 0, 200, 1, tiles.get());
      REQUIRE(tiles.values() == expected_tiles(codes, begin, end));
    }
  }
}

TEST_CASE("pack: ranges of columns and rows make up the whole") {
  for (unsigned bits = 1; bits <= 8; ++bits) {
    CAPTURE(bits);
    const Codes codes(19, 700, bits, 77 + bits);
    DeviceArray<unsigned char> tiles(expected_tiles(codes, 0, 0).size());
    tiles.fill(kUntouched);
    for (const auto& [row, row_end] : {std::pair{0U, 5U}, {5U, 19U}}) {
      for (const auto& [begin, end] : {std::pair{512U, 700U}, {0U, 128U}, {128U, 512U}})
        pack_range(codes, row, row_end, begin, end, 3, tiles.get());
    }
    REQUIRE(tiles.values() == expected_tiles(codes, 0, 19));
  }
}

TEST_CASE("pack: what cannot be is refused before anything is launched") {
  const Codes codes(4, 300, 5, 1);
  DeviceArray<unsigned char> memory(1 << 16);
  PackCodes good = call_of(codes, 0, 4);
  good.source = memory.get();
  good.tiles = memory.get() + (1 << 15);
  good.row_bytes = 188;
  const auto status = [](PackCodes call) { return pack_codes(call, nullptr).status; };
  const std::uint64_t launches = emulator::counts().launches;
  PackCodes call = good;
  call.source_bits = 9;
  CHECK(status(call) == Status::unsupported);
  call.source_bits = 0;
  CHECK(status(call) == Status::unsupported);
  call = good;
  call.column_begin = 64;
  call.column_count = 236;
  CHECK(status(call) == Status::bad_argument);
  call = good;
  call.column_count = 100;
  CHECK(status(call) == Status::bad_argument);
  call.column_count = 384;
  CHECK(status(call) == Status::bad_argument);
  call = good;
  call.row_bytes = 187;
  CHECK(status(call) == Status::bad_argument);
  call = good;
  call.tiles = nullptr;
  CHECK(status(call) == Status::bad_argument);
  call = good;
  call.row_count = 0;
  CHECK(status(call) == Status::ok);
  PackScales scales;
  scales.group = 48;
  CHECK(pack_scales(scales, nullptr).status == Status::bad_argument);
  CHECK(emulator::counts().launches == launches);
}

namespace {

template <class Scale>
void check_scales(std::uint32_t rows, std::uint32_t cols, std::uint32_t group, ScaleType type) {
  CAPTURE(rows, cols, group);
  const std::uint32_t groups = (cols + group - 1) / group;
  const std::uint32_t per_tile = kTileColumns / group;
  Random random(rows * 7919 + cols + group);
  std::vector<Scale> scales;
  for (std::uint32_t i = 0; i < rows * groups; ++i) scales.push_back(static_cast<Scale>(1 + random.below(255)));
  const std::size_t count = tiles_of_rows(rows) * tiles_of_columns(cols) * kTileRows * per_tile;
  DeviceArray<Scale> out(count);
  out.fill(kUntouched);
  // Columns in two parts where there are tiles for it, rows in two parts.
  const std::uint32_t middle = cols > kTileColumns ? kTileColumns : cols;
  for (const auto& [row_begin, row_end] : {std::pair{0U, rows / 3}, {rows / 3, rows}}) {
    for (const auto& [begin, end] : {std::pair{0U, middle}, {middle, cols}}) {
      if (begin == end) continue;
      std::vector<Scale> part;
      for (std::uint32_t row = row_begin; row < row_end; ++row) {
        for (std::uint32_t g = begin / group; g < (end + group - 1) / group; ++g)
          part.push_back(scales[row * groups + g]);
      }
      const DeviceArray<Scale> source(part);
      PackScales call;
      call.source = source.get();
      call.type = type;
      call.row_begin = row_begin;
      call.row_count = row_end - row_begin;
      call.column_begin = begin;
      call.column_count = end == cols ? 0 : end - begin;
      call.cols = cols;
      call.group = group;
      call.scales = out.get();
      REQUIRE(pack_scales(call, nullptr).status == Status::ok);
      cdna::test::must_succeed(cudaDeviceSynchronize());
    }
  }
  Scale untouched;
  std::memset(&untouched, kUntouched, sizeof untouched);
  std::vector<Scale> expected(count, untouched);
  for (std::uint32_t row = 0; row < rows; ++row) {
    for (std::uint64_t tile = 0; tile < tiles_of_columns(cols); ++tile) {
      for (std::uint32_t i = 0; i < per_tile; ++i) {
        const std::uint64_t g = tile * per_tile + i;
        const std::size_t place =
            ((row / kTileRows * tiles_of_columns(cols) + tile) * kTileRows + row % kTileRows) * per_tile + i;
        expected[place] = g < groups ? scales[row * groups + g] : Scale{0};
      }
    }
  }
  REQUIRE(out.values() == expected);
}

}  // namespace

TEST_CASE("pack: group scales are beside their rows, tile by tile, with zeros behind the last column") {
  for (const std::uint32_t group : {32U, 64U, 128U}) {
    for (const auto& [rows, cols] : {std::pair{1U, 1U}, {16U, 128U}, {33U, 161U}, {20U, 384U}, {5U, 250U}}) {
      check_scales<std::uint8_t>(rows, cols, group, ScaleType::u8);
      check_scales<float>(rows, cols, group, ScaleType::f32);
    }
  }
  CHECK(emulator::leaks().empty());
  CHECK(emulator::failure().empty());
}
