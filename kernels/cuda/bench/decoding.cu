// Ways of making A operands of mma.m16n8k16 from codes, alone: what decides which codebooks are worth their lookups.
//
// Each lane holds codes in registers, makes other random codes of them with one addition per word, and multiplies.
// Nothing is loaded but entries: weights per clock and multiprocessor is what decoding and mma leave of the core.
#include <algorithm>
#include <vector>

#include "../device.h"
#include "../launch.h"
#include "bench.h"

namespace cdna_cuda {
namespace {

constexpr unsigned kThreads = 512;
constexpr unsigned kWords = 8;  // Of a lane, each of 4 codes, or of 8 of 4 bits.
constexpr unsigned kRounds = 2048;

enum class Variant : unsigned { copies32, one_copy, pwl16, affine, k64, pairs32, none };

struct DecodeArguments {
  const std::uint32_t* words;     // [kThreads * kWords], random
  const std::uint16_t* codebook;  // [256] binary16
  long long* cycles;              // [blocks]
  float* sink;                    // [blocks * kThreads]
};

CDNA_DEVICE std::uint32_t load_shared_half(std::uint32_t table, std::uint32_t index) {
  std::uint16_t half;
  asm volatile("ld.shared.u16 %0, [%1];" : "=h"(half) : "r"(table + 2 * index));
  return half;
}

// Two codes, bytes 2i and 2i + 1 of a word, as halves of a register.
template <Variant variant>
CDNA_DEVICE std::uint32_t decode_pair(std::uint32_t word, unsigned i, std::uint32_t table, std::uint32_t lane_offset) {
  if constexpr (variant == Variant::copies32) {
    const std::uint32_t low = load_shared(table + table_offset(word, 2 * i, lane_offset));
    const std::uint32_t high = load_shared(table + table_offset(word, 2 * i + 1, lane_offset));
    return select_bytes(low, high, 0x5410U);
  } else if constexpr (variant == Variant::pairs32) {
    return load_shared(table + table_offset(word, 2 * i, lane_offset));
  } else if constexpr (variant == Variant::one_copy) {
    const std::uint32_t low = load_shared(table + (word >> 16 * i & 0xFFU) * 4);
    const std::uint32_t high = load_shared(table + (word >> (16 * i + 8) & 0xFFU) * 4);
    return select_bytes(low, high, 0x5410U);
  } else if constexpr (variant == Variant::k64) {
    // 64 entries of 16 bits are 32 words: every bank once.
    const std::uint32_t low = load_shared_half(table, word >> 16 * i & 0x3FU);
    const std::uint32_t high = load_shared_half(table, word >> (16 * i + 8) & 0x3FU);
    return select_bytes(low, high, 0x5410U);
  } else if constexpr (variant == Variant::pwl16) {
    // Lines as words: base below, step above.
    const std::uint32_t low = load_shared(table + (word >> (16 * i + 2) & 0x3CU));
    const std::uint32_t high = load_shared(table + (word >> (16 * i + 10) & 0x3CU));
    const std::uint32_t numbers = (select_bytes(word, 0, i == 0 ? 0x4140U : 0x4342U) & 0x000F000FU) | 0x64006400U;
    return fma_f16x2(subtract_f16x2(numbers, 0x64006400U), select_bytes(low, high, 0x7632U),
                     select_bytes(low, high, 0x5410U));
  } else if constexpr (variant == Variant::affine) {
    const std::uint32_t numbers = select_bytes(word, 0x64006400U, i == 0 ? 0x5150U : 0x5352U);
    return fma_f16x2(subtract_f16x2(numbers, 0x64006400U), 0x1F801F80U, 0xBC00BC00U);
  } else {
    return select_bytes(word, lane_offset, i == 0 ? 0x4140U : 0x4342U);
  }
}

template <Variant variant>
CDNA_DEVICE void fill_table(const DecodeArguments& arguments, unsigned char* shared) {
  constexpr bool copies = variant == Variant::copies32 || variant == Variant::pairs32;
  for (unsigned i = threadIdx.x; i < 256 * (copies ? kLanes : 1); i += kThreads) {
    if constexpr (copies) {
      const unsigned row = i / kLanes;
      const std::uint32_t entry = table_word(variant == Variant::copies32 ? 8 : 4, Half::f16, arguments.codebook, row);
      *reinterpret_cast<std::uint32_t*>(shared + kTableStride * row + 4 * (i % kLanes)) = entry;
    } else if constexpr (variant == Variant::one_copy) {
      *reinterpret_cast<std::uint32_t*>(shared + 4 * i) = arguments.codebook[i] * 0x10001U;
    } else {
      *reinterpret_cast<std::uint16_t*>(shared + 2 * i) = arguments.codebook[i];
    }
  }
  __syncthreads();
}

template <Variant variant>
__global__ void __launch_bounds__(kThreads) decode_alone(const DecodeArguments arguments) {
  CDNA_SHARED(shared);
  fill_table<variant>(arguments, shared);
  const std::uint32_t table = shared_address(shared);
  const std::uint32_t lane_offset = 4 * (threadIdx.x % kLanes);
  std::uint32_t words[kWords];
#pragma unroll
  for (unsigned i = 0; i < kWords; ++i) words[i] = arguments.words[threadIdx.x * kWords + i];
  const std::uint32_t b[2] = {0x3C003C00U, 0x38003800U};
  float sums[2][4] = {};
  __syncthreads();
  const long long begin = clock64();
#pragma unroll 1
  for (unsigned round = 0; round < kRounds; ++round) {
#pragma unroll
    for (unsigned i = 0; i < kWords; i += 2) {
      const std::uint32_t a[4] = {decode_pair<variant>(words[i], 0, table, lane_offset),
                                  decode_pair<variant>(words[i + 1], 0, table, lane_offset),
                                  decode_pair<variant>(words[i], 1, table, lane_offset),
                                  decode_pair<variant>(words[i + 1], 1, table, lane_offset)};
      mma_16816<Half::f16>(sums[i / 2 % 2], a, b);
      words[i] += 0x9E3779B9U;
      words[i + 1] += 0x85EBCA6BU;
    }
  }
  const long long end = clock64();
  arguments.sink[blockIdx.x * kThreads + threadIdx.x] =
      sums[0][0] + sums[0][1] + sums[0][2] + sums[0][3] + sums[1][0] + sums[1][1] + sums[1][2] + sums[1][3];
  __syncthreads();
  if (threadIdx.x == 0) arguments.cycles[blockIdx.x] = end - begin;
}

struct DecodingRate {
  double weights_per_clock;
  double clock_hertz;
};

template <Variant variant>
DecodingRate measure_variant(const Machine& machine, const DecodeArguments& inputs, Stopwatch* stopwatch) {
  constexpr unsigned kBlocksPerMultiprocessor = 2;
  const unsigned blocks = static_cast<unsigned>(machine.device.multiprocessors) * kBlocksPerMultiprocessor;
  const DeviceArray<long long> cycles(blocks);
  const DeviceArray<float> sink(std::size_t{blocks} * kThreads);
  DecodeArguments arguments = inputs;
  arguments.cycles = cycles.data();
  arguments.sink = sink.data();
  // All variants with as much shared memory, so that as many blocks are on a multiprocessor.
  const Timing timing = stopwatch->measure(
      [&](unsigned) {
        require(
            launch(decode_alone<variant>, dim3(blocks), dim3(kThreads), kTableBytes, stopwatch->stream(), arguments),
            "decoding");
      },
      1, 0.2);
  const std::vector<long long> all = cycles.host();
  const auto longest = static_cast<double>(*std::max_element(all.begin(), all.end()));
  const double weights = double{kBlocksPerMultiprocessor} * kThreads * kWords * 4 * kRounds;
  return {weights / longest, longest / timing.seconds};
}

}  // namespace

void measure_decoding(Machine* machine, Records* records) {
  std::vector<std::uint32_t> words(std::size_t{kThreads} * kWords);
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = static_cast<std::uint32_t>(random_bits(9, i, 0));
  std::vector<std::uint16_t> codebook(256);
  for (std::size_t i = 0; i < codebook.size(); ++i) {
    codebook[i] = static_cast<std::uint16_t>(0x3000U + (i & 0x7FU) * 16 + (i >> 7) * 0x8000U);
  }
  const DeviceArray<std::uint32_t> device_words(words);
  const DeviceArray<std::uint16_t> device_codebook(codebook);
  const DecodeArguments inputs{device_words.data(), device_codebook.data(), nullptr, nullptr};
  Stopwatch stopwatch;
  struct Row {
    const char* name;
    unsigned bits;
    DecodingRate (*measure)(const Machine&, const DecodeArguments&, Stopwatch*);
  };
  const Row rows[] = {{"256 entries, 32 copies", 8, measure_variant<Variant::copies32>},
                      {"256 entries, one copy", 8, measure_variant<Variant::one_copy>},
                      {"PWL-16", 8, measure_variant<Variant::pwl16>},
                      {"affine", 8, measure_variant<Variant::affine>},
                      {"64 entries, one copy", 6, measure_variant<Variant::k64>},
                      {"16 entries in pairs, 32 copies", 4, measure_variant<Variant::pairs32>},
                      {"nothing looked up", 8, measure_variant<Variant::none>}};
  for (const Row& row : rows) {
    const DecodingRate measured = row.measure(*machine, inputs, &stopwatch);
    machine->clock_hertz = measured.clock_hertz;
    const double bytes_per_clock =
        machine->read_bytes_per_second / machine->device.multiprocessors / measured.clock_hertz;
    const double needed = bytes_per_clock * 8 / row.bits;
    std::printf(
        "decoding alone, %-31s %5.1f weights per clock and multiprocessor; memory delivers %.1f (%.2f x); %.0f MHz\n",
        row.name, measured.weights_per_clock, needed, measured.weights_per_clock / needed, measured.clock_hertz * 1e-6);
    std::fflush(stdout);
    records->add(
        "\"kind\": \"decoding\", \"variant\": \"%s\", \"bits\": %u, \"weights_per_clock_sm\": %.2f, "
        "\"memory_delivers\": %.2f, \"clock_mhz\": %.0f",
        row.name, row.bits, measured.weights_per_clock, needed, measured.clock_hertz * 1e-6);
  }
}

}  // namespace cdna_cuda
