// From words of codes to the registers of A: every width, and a simulated warp that multiplies with them.
#include "../../kernels/cuda/decode.h"

#include <array>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "../../kernels/cuda/device.h"
#include "../../kernels/cuda/emulator/emulator.h"
#include "../../kernels/cuda/launch.h"
#include "../random.hpp"
#include "../small_floats.hpp"
#include "code_bits.hpp"

using namespace cdna_cuda;
using cdna::test::bf16_of;
using cdna::test::bit_of;
using cdna::test::BitPlace;
using cdna::test::f16_of;
using cdna::test::kDeviceBits;
using cdna::test::Random;
using cdna::test::value_of_bf16;
using cdna::test::value_of_f16;

namespace {

constexpr std::uint64_t kSeed = 20261123;

std::uint32_t word_of(Random& random) { return static_cast<std::uint32_t>(random.next() >> 32); }

using Codes = std::array<std::uint32_t, 32>;  // [4 * step + j]
using Words = std::array<std::uint32_t, 8>;

Codes random_codes(Random& random, unsigned bits) {
  Codes codes;
  for (auto& code : codes) code = static_cast<std::uint32_t>(random.below(1U << bits));
  return codes;
}

Words words_of(unsigned bits, const Codes& codes) {
  Words words{};
  for (unsigned i = 0; i < 32; ++i) {
    for (unsigned bit = 0; bit < bits; ++bit) {
      const BitPlace place = bit_of(bits, i / 4, i % 4, bit);
      words[place.word] |= (codes[i] >> bit & 1U) << place.bit;
    }
  }
  return words;
}

template <unsigned bits>
std::uint64_t wrong_step_bytes(const Words& words, const Codes& codes) {
  std::uint64_t wrong = 0;
  for (unsigned i = 0; i < 32; ++i) {
    wrong += (step_bytes<bits>(words.data(), i / 4) >> 8 * (i % 4) & ((1U << bits) - 1)) != codes[i];
  }
  return wrong;
}

}  // namespace

TEST_CASE("decode: select_bytes takes any four of eight bytes") {
  CAPTURE(kSeed);
  Random random(kSeed);
  for (unsigned i = 0; i < 4096; ++i) {
    const std::uint32_t a = word_of(random);
    const std::uint32_t b = word_of(random);
    std::uint32_t selector = 0;
    std::uint32_t expected = 0;
    for (unsigned byte = 0; byte < 4; ++byte) {
      const unsigned from = i >> 3 * byte & 7U;  // All 4096 of them.
      selector |= from << 4 * byte;
      expected |= static_cast<std::uint32_t>((std::uint64_t{b} << 32 | a) >> 8 * from & 0xFFU) << 8 * byte;
    }
    REQUIRE(select_bytes(a, b, selector) == expected);
    REQUIRE(__byte_perm(a, b, selector) == expected);
  }
}

TEST_CASE("decode: table_offset is the row of a byte of codes, and the lane's copy") {
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    for (unsigned j = 0; j < 4; ++j) {
      for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
        const std::uint32_t codes = (0xA5C3961EU & ~(0xFFU << 8 * j)) | byte << 8 * j;
        REQUIRE(table_offset(codes, j, 4 * lane) == byte * kTableStride + 4 * lane);
      }
    }
  }
}

TEST_CASE("decode: step_bytes and code_of give the codes of words of every width") {
  CAPTURE(kSeed);
  Random random(kSeed);
  for (const unsigned bits : kDeviceBits) {
    CAPTURE(bits);
    for (unsigned i = 0; i < 2000; ++i) {
      Codes codes = random_codes(random, bits);
      codes[i % 32] = i / 32 % (1U << bits);
      const Words words = words_of(bits, codes);
      for (unsigned place = 0; place < 32; ++place) {
        REQUIRE(code_of(bits, words.data(), place / 4, place % 4) == codes[place]);
      }
      if (bits == 5) REQUIRE(wrong_step_bytes<5>(words, codes) == 0);
      if (bits == 6) REQUIRE(wrong_step_bytes<6>(words, codes) == 0);
      if (bits == 8) REQUIRE(wrong_step_bytes<8>(words, codes) == 0);
    }
  }
}

TEST_CASE("decode: code_of gives back what pack_words packed") {
  CAPTURE(kSeed);
  Random random(kSeed + 1);
  for (const unsigned bits : kDeviceBits) {
    for (unsigned i = 0; i < 1000; ++i) {
      const Codes codes = random_codes(random, bits);
      Words words{};
      pack_words(bits, codes.data(), words.data());
      for (unsigned place = 0; place < 32; ++place) {
        REQUIRE(code_of(bits, words.data(), place / 4, place % 4) == codes[place]);
      }
    }
  }
}

TEST_CASE("decode: widen_f16 is exact for every f16, NaNs keep their bits") {
  std::uint64_t wrong = 0;
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const auto half = static_cast<std::uint16_t>(i);
    const auto bits = std::bit_cast<std::uint32_t>(widen_f16(half));
    const std::uint32_t expected = (i & 0x7FFFU) > 0x7C00U
                                       ? ((i & 0x8000U) << 16 | 0x7F800000U | (i & 0x3FFU) << 13)
                                       : std::bit_cast<std::uint32_t>(static_cast<float>(value_of_f16(half)));
    wrong += bits != expected;
  }
  CHECK(wrong == 0);
}

TEST_CASE("decode: narrow_bf16 rounds to nearest, ties to even; NaN stays NaN") {
  CAPTURE(kSeed);
  Random random(kSeed + 2);
  std::uint64_t wrong = 0;
  const auto check = [&wrong](std::uint32_t bits) {
    const auto number = std::bit_cast<float>(bits);
    const std::uint16_t got = narrow_bf16(number);
    wrong += std::isnan(number) ? (got & 0x7FFFU) <= 0x7F80U : got != bf16_of(static_cast<double>(number));
  };
  for (std::uint32_t high = 0; high < 65536; ++high) {
    for (const std::uint32_t low : {0U, 1U, 0x7FFFU, 0x8000U, 0x8001U, 0xFFFFU}) check(high << 16 | low);
    check(std::bit_cast<std::uint32_t>(widen_f16(static_cast<std::uint16_t>(high))));
  }
  for (int i = 0; i < 100000; ++i) check(word_of(random));
  CHECK(wrong == 0);
}

TEST_CASE("decode: a table row holds the entries of its codes in both halves") {
  CAPTURE(kSeed);
  Random random(kSeed + 3);
  for (const unsigned bits : kDeviceBits) {
    for (const Half half : {Half::f16, Half::bf16}) {
      CAPTURE(bits, half == Half::f16);
      std::vector<std::uint16_t> codebook(std::size_t{1} << bits);
      for (auto& entry : codebook) entry = f16_of(static_cast<double>(random.below(1000000)) / 999.0 - 500.0);
      const auto entry_of = [&](unsigned code) -> std::uint32_t {
        const std::uint16_t entry = codebook[code];
        return half == Half::f16 ? entry : bf16_of(value_of_f16(entry));
      };
      for (unsigned row = 0; row < kTableRows; ++row) {
        const unsigned low = row % (1U << bits);
        const unsigned high = bits == 4 ? row / 16 : low;
        REQUIRE(table_word(bits, half, codebook.data(), row) == (entry_of(low) | entry_of(high) << 16));
      }
    }
  }
}

namespace {

struct TileArguments {
  const unsigned char* tile;      // tile_bytes(bits)
  const std::uint16_t* codebook;  // [2^bits]
  const std::uint32_t* b;         // [step, lane, 2]: registers of B.
  float* c;                       // [16, 8]
};

template <unsigned bits>
CDNA_DEVICE std::uint32_t pair_of(const std::uint32_t* words, unsigned step, unsigned pair, std::uint32_t table,
                                  std::uint32_t lane_offset) {
  if constexpr (bits == 4) {
    return load_shared(table + table_offset(words[step / 2], 2 * (step % 2) + pair, lane_offset));
  } else {
    const std::uint32_t bytes = step_bytes<bits>(words, step);
    const std::uint32_t low = load_shared(table + table_offset(bytes, 2 * pair, lane_offset));
    const std::uint32_t high = load_shared(table + table_offset(bytes, 2 * pair + 1, lane_offset));
    return __byte_perm(low, high, 0x5410);
  }
}

// One warp multiplies one tile, as the kernels do.
template <unsigned bits, Half half>
__global__ void multiply_tile(const TileArguments arguments) {
  CDNA_SHARED(table);
  const unsigned lane = threadIdx.x;
  for (unsigned row = 0; row < kTableRows; ++row) {
    const std::uint32_t word = table_word(bits, half, arguments.codebook, row);
    *reinterpret_cast<std::uint32_t*>(table + row * kTableStride + 4 * lane) = word;
  }
  __syncwarp();
  std::uint32_t words[2][bits];
  for (unsigned i = 0; i < 2; ++i) {
    for (unsigned word = 0; word < bits; ++word) {
      std::memcpy(&words[i][word], arguments.tile + word_offset(bits, lane, word_place(bits, i, word)), 4);
    }
  }
  float c[4] = {};
  for (unsigned step = 0; step < kSteps; ++step) {
    std::uint32_t a[4];
    for (unsigned i = 0; i < 4; ++i) {
      a[i] = pair_of<bits>(words[i % 2], step, i / 2, shared_address(table), 4 * lane);
    }
    const std::uint32_t b[2] = {arguments.b[2 * (32 * step + lane)], arguments.b[2 * (32 * step + lane) + 1]};
    mma_16816<half>(c, a, b);
  }
  for (unsigned i = 0; i < 4; ++i) {
    arguments.c[8 * (lane / 4 + 8 * (i / 2)) + 2 * (lane % 4) + i % 2] = c[i];
  }
}

template <class T>
T* upload(const std::vector<T>& values) {
  T* pointer = nullptr;
  REQUIRE(cudaMalloc(&pointer, values.size() * sizeof(T)) == cudaSuccess);
  REQUIRE(cudaMemcpy(pointer, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
  return pointer;
}

// Small integers, so that every product and sum is exact whatever the order.
template <unsigned bits, Half half>
void check_tile(std::uint64_t seed) {
  emulator::reset();
  Random random(seed);
  const auto integer = [&random](int most) {
    return static_cast<int>(random.below(static_cast<std::uint64_t>(2 * most + 1))) - most;
  };
  const auto bits_of = [](int number) { return half == Half::f16 ? f16_of(number) : bf16_of(number); };
  std::vector<int> entries(std::size_t{1} << bits);
  for (int& entry : entries) entry = integer(64);
  std::vector<std::uint16_t> codebook;
  for (const int entry : entries) codebook.push_back(f16_of(entry));

  std::vector<unsigned> codes(kTileRows * kTileColumns);
  for (unsigned& code : codes) code = static_cast<unsigned>(random.below(1U << bits));
  std::vector<unsigned char> tile(tile_bytes(bits));
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    for (unsigned i = 0; i < 2; ++i) {
      Codes own;
      for (unsigned place = 0; place < 32; ++place) {
        const FragmentPlace from{lane, i, place / 4, place % 4};
        own[place] = codes[row_of(from) * kTileColumns + column_of(from)];
      }
      const Words words = words_of(bits, own);
      for (unsigned word = 0; word < bits; ++word) {
        std::memcpy(tile.data() + word_offset(bits, lane, word_place(bits, i, word)), &words[word], 4);
      }
    }
  }

  // PTX ISA, B of m16n8k16: b_i is row thread * 2 + (i & 1), 8 more for i >= 2, column groupID.
  std::vector<int> x(std::size_t{kTileColumns} * 8);
  for (int& value : x) value = integer(8);
  std::vector<std::uint32_t> b(std::size_t{kSteps} * kLanes * 2);
  for (unsigned step = 0; step < kSteps; ++step) {
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      for (unsigned i = 0; i < 4; ++i) {
        const unsigned k = 16 * step + lane % 4 * 2 + (i & 1U) + (i >= 2 ? 8 : 0);
        b[2 * (kLanes * step + lane) + i / 2] |= std::uint32_t{bits_of(x[8 * k + lane / 4])} << 16 * (i % 2);
      }
    }
  }

  float* c = nullptr;
  REQUIRE(cudaMalloc(&c, 16 * 8 * sizeof(float)) == cudaSuccess);
  unsigned char* const device_tile = upload(tile);
  std::uint16_t* const device_codebook = upload(codebook);
  std::uint32_t* const device_b = upload(b);
  const TileArguments arguments{device_tile, device_codebook, device_b, c};
  REQUIRE(launch(multiply_tile<bits, half>, dim3(1), dim3(32), kTableBytes, nullptr, arguments) == cudaSuccess);
  std::vector<float> got(16 * 8);
  REQUIRE(cudaMemcpy(got.data(), c, got.size() * sizeof(float), cudaMemcpyDeviceToHost) == cudaSuccess);
  for (unsigned row = 0; row < 16; ++row) {
    for (unsigned n = 0; n < 8; ++n) {
      int sum = 0;
      for (unsigned k = 0; k < kTileColumns; ++k) sum += entries[codes[row * kTileColumns + k]] * x[8 * k + n];
      REQUIRE(got[8 * row + n] == static_cast<float>(sum));
    }
  }
  cudaFree(c);
  cudaFree(device_tile);
  cudaFree(device_codebook);
  cudaFree(device_b);
}

}  // namespace

TEST_CASE("decode: a warp with the lanes' words, the table and mma gives the product of a tile") {
  for (std::uint64_t seed = kSeed; seed < kSeed + 4; ++seed) {
    CAPTURE(seed);
    check_tile<4, Half::f16>(seed);
    check_tile<4, Half::bf16>(seed);
    check_tile<5, Half::f16>(seed);
    check_tile<5, Half::bf16>(seed);
    check_tile<6, Half::f16>(seed);
    check_tile<6, Half::bf16>(seed);
    check_tile<8, Half::f16>(seed);
    check_tile<8, Half::bf16>(seed);
  }
}
