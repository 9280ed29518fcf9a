// The order of codes on the device, against the PTX ISA's fragment and a table of bits written out here.
#include "../../kernels/cuda/layout.h"

#include <array>
#include <catch2/catch.hpp>
#include <set>
#include <vector>

#include "../random.hpp"
#include "code_bits.hpp"

using namespace cdna_cuda;
using cdna::test::bit_of;
using cdna::test::BitPlace;
using cdna::test::kDeviceBits;
using cdna::test::Random;

namespace {

constexpr std::uint64_t kSeed = 20261122;

}  // namespace

TEST_CASE("layout: fragment_place is a bijection over a tile, and row_of and column_of its inverse") {
  std::set<std::array<unsigned, 4>> seen;
  for (unsigned row = 0; row < kTileRows; ++row) {
    for (unsigned column = 0; column < kTileColumns; ++column) {
      const FragmentPlace place = fragment_place(row, column);
      REQUIRE(place.lane < kLanes);
      REQUIRE(place.half < 2);
      REQUIRE(place.step < kSteps);
      REQUIRE(place.j < 4);
      REQUIRE(row_of(place) == row);
      REQUIRE(column_of(place) == column);
      seen.insert({place.lane, place.half, place.step, place.j});
    }
  }
  CHECK(seen.size() == std::size_t{kTileRows} * kTileColumns);
}

// PTX ISA, m16n8k16, A of 16-bit elements: groupID = lane >> 2, thread = lane % 4; the row of a_i is groupID for i in
// {0, 1, 4, 5}, else groupID + 8; the column thread * 2 + (i & 1), and 8 more for i >= 4.
TEST_CASE("layout: a lane's codes of a step are its A operand of mma.m16n8k16") {
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    for (unsigned step = 0; step < kSteps; ++step) {
      for (unsigned i = 0; i < 8; ++i) {
        const bool is_upper = i == 0 || i == 1 || i == 4 || i == 5;
        const unsigned row = (lane >> 2) + (is_upper ? 0 : 8);
        const unsigned column = lane % 4 * 2 + (i & 1U) + (i >= 4 ? 8 : 0);
        const FragmentPlace place{lane, is_upper ? 0U : 1U, step, (i & 1U) + (i >= 4 ? 2 : 0)};
        REQUIRE(row_of(place) == row);
        REQUIRE(column_of(place) == 16 * step + column);
      }
    }
  }
}

TEST_CASE("layout: words fill a tile, each lane's in runs of 16 bytes and at most one of 8") {
  for (const unsigned bits : kDeviceBits) {
    CAPTURE(bits);
    std::set<std::size_t> offsets;
    std::set<unsigned> places;
    for (unsigned half = 0; half < 2; ++half) {
      for (unsigned word = 0; word < bits; ++word) places.insert(word_place(bits, half, word));
    }
    CHECK(places.size() == 2 * bits);
    CHECK(*places.rbegin() == 2 * bits - 1);
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      for (unsigned place = 0; place < 2 * bits; ++place) {
        const std::size_t offset = word_offset(bits, lane, place);
        REQUIRE(offset % 4 == 0);
        REQUIRE(offset <= tile_bytes(bits) - 4);
        offsets.insert(offset);
        // A run begins aligned to its size, and its lanes lie side by side.
        const bool is_short = bits == 5 && place >= 8;
        const std::size_t run_bytes = is_short ? 8 : 16;
        const unsigned in_run = place % 4;
        REQUIRE((offset - 4 * in_run) % run_bytes == 0);
        REQUIRE(offset - 4 * in_run == 512 * (place / 4) + run_bytes * lane);
      }
    }
    CHECK(offsets.size() == tile_bytes(bits) / 4);
  }
}

TEST_CASE("layout: word_place interleaves the words of the halves in pairs") {
  // Place: half.word, as layout.h tells it.
  const std::array<std::array<unsigned, 2>, 10> five = {
      {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {0, 4}, {1, 4}}};
  for (unsigned place = 0; place < 10; ++place) CHECK(word_place(5, five[place][0], five[place][1]) == place);
  const std::array<std::array<unsigned, 2>, 8> four = {
      {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}}};
  for (unsigned place = 0; place < 8; ++place) CHECK(word_place(4, four[place][0], four[place][1]) == place);
}

TEST_CASE("layout: every bit of every code has a bit of the words of its own") {
  for (const unsigned bits : kDeviceBits) {
    CAPTURE(bits);
    std::set<std::array<unsigned, 2>> seen;
    for (unsigned code = 0; code < 32; ++code) {
      for (unsigned bit = 0; bit < bits; ++bit) {
        const BitPlace place = bit_of(bits, code / 4, code % 4, bit);
        REQUIRE(place.word < bits);
        REQUIRE(place.bit < 32);
        seen.insert({place.word, place.bit});
      }
    }
    CHECK(seen.size() == std::size_t{32} * bits);
  }
}

TEST_CASE("layout: pack_words puts every code at every place where the table of bits has it") {
  for (const unsigned bits : kDeviceBits) {
    CAPTURE(bits);
    for (unsigned place = 0; place < 32; ++place) {
      for (unsigned code = 0; code < 1U << bits; ++code) {
        std::array<std::uint8_t, 32> codes{};
        codes[place] = static_cast<std::uint8_t>(code);
        std::array<std::uint32_t, 8> expected{};
        for (unsigned bit = 0; bit < bits; ++bit) {
          const BitPlace target = bit_of(bits, place / 4, place % 4, bit);
          expected[target.word] |= (code >> bit & 1U) << target.bit;
        }
        std::array<std::uint32_t, 8> words{};
        pack_words(bits, codes.data(), words.data());
        REQUIRE(words == expected);
      }
    }
  }
}

TEST_CASE("layout: pack_words of many codes at once is the sum of its parts") {
  CAPTURE(kSeed);
  Random random(kSeed);
  for (const unsigned bits : kDeviceBits) {
    CAPTURE(bits);
    for (int i = 0; i < 1000; ++i) {
      std::array<std::uint32_t, 32> codes{};
      std::array<std::uint32_t, 8> expected{};
      for (unsigned place = 0; place < 32; ++place) {
        codes[place] = static_cast<std::uint32_t>(random.below(1U << bits));
        for (unsigned bit = 0; bit < bits; ++bit) {
          const BitPlace target = bit_of(bits, place / 4, place % 4, bit);
          expected[target.word] |= (codes[place] >> bit & 1U) << target.bit;
        }
      }
      std::array<std::uint32_t, 8> words{};
      pack_words(bits, codes.data(), words.data());
      REQUIRE(words == expected);
    }
  }
}

TEST_CASE("layout: 1 to 8 bits per code have a width on the device, nothing else has") {
  const std::array<unsigned, 10> widths = {0, 4, 4, 4, 4, 5, 6, 8, 8, 0};
  for (unsigned bits = 0; bits < 10; ++bits) CHECK(device_bits(bits) == widths[bits]);
  CHECK(device_bits(0xFFFFFFFFU) == 0);
}

TEST_CASE("layout: tiles cover rows and columns") {
  CHECK(tiles_of_rows(0) == 0);
  CHECK(tiles_of_rows(1) == 1);
  CHECK(tiles_of_rows(16) == 1);
  CHECK(tiles_of_rows(17) == 2);
  CHECK(tiles_of_columns(128) == 1);
  CHECK(tiles_of_columns(129) == 2);
  CHECK(tiles_of_columns(0xFFFFFFFFU) == 0x2000000U);
  for (const unsigned bits : kDeviceBits) CHECK(8 * tile_bytes(bits) == std::size_t{kTileRows} * kTileColumns * bits);
}
