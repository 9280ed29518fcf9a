// What tables of low rank and column scales hold in memory: shared while they are used, of a file no more than a bound.
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cdna/encode.hpp"
#include "cdna/matmul.hpp"
#include "heap_meter.hpp"
#include "libcdna/file.hpp"
#include "sample_file.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint32_t kTensors = 12;  // Even ones have column scales, odd ones a matrix of low rank: 16 MiB each.
constexpr std::uint64_t kTableBytes = 16 * kMiB;
constexpr std::uint64_t kRank = 4;

std::uint64_t cols_of(std::uint32_t number) { return number % 2 == 0 ? 4 * kMiB : kMiB; }

void add_tensor(Writer& writer, std::uint32_t number) {
  const std::uint64_t cols = cols_of(number);
  const std::vector<float> codebook = {1, 2};
  const std::vector<std::byte> codes(cols / 8, std::byte{2});  // 0 1 0 0 0 0 0 0
  const std::vector<float> table(4 * kMiB, 0.5F);
  const std::vector<float> few(kRank, 2);
  EncodedPlanes planes;
  planes.bits = 1;
  planes.codebook = codebook;
  planes.codes = codes;
  if (number % 2 == 0) planes.column_scales = table;
  if (number % 2 != 0) {
    planes.low_rank_left = few;
    planes.low_rank_factors = few;
    planes.low_rank_right = table;
  }
  must(writer.add_encoded({std::to_string(number), DType::f32, {1, cols}, Role::matrix, Codec::zstd}, planes));
}

std::vector<std::byte> make_file() {
  return write_file({}, [](Writer& writer) {
    for (std::uint32_t number = 0; number < kTensors; ++number) add_tensor(writer, number);
  });
}

// Whether all values are right: 1 / 0.5 and 2 / 0.5, or those with 4 times 2 * 2 * 0.5 added.
bool reads_right(const Tensor& tensor, std::uint32_t number, std::vector<float>& values) {
  values.resize(cols_of(number));
  if (!tensor.read_rows(0, 1, DType::f32, std::as_writable_bytes(std::span(values)))) return false;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float entry = i % 8 == 1 ? 2 : 1;
    if (values[i] != (number % 2 == 0 ? entry * 2 : entry + 8)) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("finish tables: all tensors of a file are read in bounded memory") {
  const auto file = make_file();
  const Reader reader = must(Reader::open(memory_source(file)));
  std::vector<float> values(4 * kMiB);
  const HeapMeter meter;
  for (std::uint32_t number = 0; number < kTensors; ++number) {
    INFO(number);
    CHECK(reads_right(reader.find(std::to_string(number)).value(), number, values));
  }
  CAPTURE(meter.peak_bytes());
  CHECK(meter.peak_bytes() < 112 * kMiB);  // 64 that stay, 16 in use, and buffers. All together: 192.
  if (kMeasuresHeap) CHECK(meter.peak_bytes() >= 64 * kMiB);
}

TEST_CASE("finish tables: neither a codebook nor a plan of a product loads them") {
  const auto file = make_file();
  const Reader reader = must(Reader::open(memory_source(file)));
  const HeapMeter meter;
  for (std::uint32_t number = 0; number < kTensors; ++number) {
    const Tensor tensor = reader.find(std::to_string(number)).value();
    CHECK(must(tensor.codebook()).size() == 2);
    const std::string kernel = must(describe(tensor, 1)).kernel;
    CHECK(kernel.find(number % 2 == 0 ? "column scales" : "low rank 4") != std::string::npos);
  }
  CAPTURE(meter.peak_bytes());
  CHECK(meter.peak_bytes() < 4 * kMiB);
}

TEST_CASE("finish tables: those who use them share one copy, and all but the first go with the last user") {
  const auto bytes = make_file();
  const Reader reader = must(Reader::open(memory_source(bytes)));
  const File& file = file_of(reader.item(0));
  std::vector<std::weak_ptr<const FinishTables>> known;
  for (std::uint32_t number = 0; number < kTensors; ++number) {
    constexpr int kThreads = 4;
    std::vector<std::shared_ptr<const FinishTables>> tables(kThreads);
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (auto& one : tables) threads.emplace_back([&file, &one, number] { one = must(file.finish_tables(number)); });
    for (std::thread& thread : threads) thread.join();
    REQUIRE(tables[0] != nullptr);
    CHECK(tables[0]->bytes() >= kTableBytes);
    for (const auto& one : tables) CHECK(one == tables[0]);
    known.emplace_back(tables[0]);
  }
  std::uint64_t kept_bytes = 0;
  for (const auto& one : known) {
    if (const auto tables = one.lock()) kept_bytes += tables->bytes();
  }
  CHECK_FALSE(known.front().expired());
  CHECK(known.back().expired());
  CHECK(kept_bytes <= 64 * kMiB);
}
