// allocate() is the best that a convex hull allows, and measure() says what a writer would.
#include "cdna/planner.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "cdna/writer.hpp"

using cdna::AllocationTensor;
using cdna::Code;
using cdna::DType;
using cdna::OperatingPoint;
using cdna::Preset;

namespace {

constexpr unsigned kSeed = 20250311;
constexpr std::uint32_t kStepBytesMax = 40;

struct Cost {
  std::uint64_t bytes = 0;
  double error = 0;
};

double weighted(const AllocationTensor& tensor, std::size_t point) {
  return tensor.weight * tensor.points[point].relative_error;
}

// Every choice of one point per tensor.
std::vector<Cost> all_choices(const std::vector<AllocationTensor>& tensors) {
  std::vector<Cost> choices{{}};
  for (const AllocationTensor& tensor : tensors) {
    std::vector<Cost> longer;
    for (const Cost& choice : choices) {
      for (std::size_t i = 0; i < tensor.points.size(); ++i)
        longer.push_back({choice.bytes + tensor.points[i].stored_bytes, choice.error + weighted(tensor, i)});
    }
    choices = std::move(longer);
  }
  return choices;
}

double least_error(const std::vector<Cost>& choices, std::uint64_t budget) {
  double least = INFINITY;
  for (const Cost& choice : choices) {
    if (choice.bytes <= budget) least = std::min(least, choice.error);
  }
  return least;
}

// Errors are multiples of 1/64 below 2^10 and weights small integers: sums are exact, in any order.
std::vector<AllocationTensor> random_tensors(std::mt19937& random, std::size_t count, std::size_t points_max) {
  const auto below = [&random](std::uint32_t end) { return static_cast<std::uint32_t>(random() % end); };
  std::vector<AllocationTensor> tensors;
  for (std::size_t i = 0; i < count; ++i) {
    AllocationTensor& tensor = tensors.emplace_back();
    tensor.weight = 1 + below(4);
    for (std::size_t p = 1 + below(static_cast<std::uint32_t>(points_max)); p > 0; --p)
      tensor.points.push_back({below(kStepBytesMax), below(64 * 64) / 64.0});
  }
  return tensors;
}

Cost cost_of(const std::vector<AllocationTensor>& tensors, const cdna::Allocation& allocation) {
  Cost cost;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    cost.bytes += tensors[i].points[allocation.tensors[i].point].stored_bytes;
    cost.error += weighted(tensors[i], allocation.tensors[i].point);
  }
  return cost;
}

std::vector<std::byte> normal_values(std::size_t count, float scale) {
  std::mt19937 random(kSeed);
  std::vector<float> values(count);
  for (float& value : values) {
    double sum = 0;  // Of 12 uniform ones: near enough to normal, and the same on every C++ library.
    for (int i = 0; i < 12; ++i) sum += static_cast<double>(random()) / 4294967296.0;
    value = static_cast<float>(sum - 6) * scale;
  }
  std::vector<std::byte> bytes(count * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

cdna::TrialReader reader_of(const std::vector<std::vector<std::byte>>& data) {
  return [&data](std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) -> cdna::Result<void> {
    REQUIRE(out.size() <= data[tensor].size() - offset);
    std::memcpy(out.data(), data[tensor].data() + offset, out.size());
    return {};
  };
}

Preset preset(const char* text) { return *cdna::parse_preset(text); }

}  // namespace

TEST_CASE("planner: no choice within the budget is better by more than the first step that did not fit") {
  INFO("seed " << kSeed);
  std::mt19937 random(kSeed);
  for (int round = 0; round < 300; ++round) {
    const auto tensors = random_tensors(random, 1 + random() % 4, 5);
    const std::vector<Cost> choices = all_choices(tensors);
    const cdna::AllocationRange range = cdna::allocation_range(tensors);
    for (std::uint64_t budget = range.bytes_min; budget <= range.bytes_max + 3; ++budget) {
      const auto allocation = cdna::allocate(tensors, budget);
      REQUIRE(allocation);
      const Cost cost = cost_of(tensors, *allocation);
      REQUIRE(cost.bytes == allocation->stored_bytes);
      REQUIRE(cost.error == Approx(allocation->weighted_error));
      REQUIRE(cost.bytes <= budget);
      const double best = least_error(choices, budget);
      REQUIRE(cost.error >= best);
      // Weak duality: before that step error + price * bytes was least, and from there on less than one step is left.
      REQUIRE(cost.error - best <= allocation->price * kStepBytesMax + 1e-9);
    }
    const auto best = cdna::allocate(tensors, range.bytes_max);
    REQUIRE(best);
    REQUIRE(best->weighted_error == Approx(least_error(choices, UINT64_MAX)));
    REQUIRE(best->price == 0);
  }
}

TEST_CASE("planner: with a budget that ends at a step of the aggregate hull the result is optimal") {
  INFO("seed " << kSeed);
  std::mt19937 random(kSeed + 1);
  int steps = 0;
  for (int round = 0; round < 300; ++round) {
    const auto tensors = random_tensors(random, 1 + random() % 4, 5);
    const std::vector<Cost> choices = all_choices(tensors);
    // The hull of all choices together, found without allocate().
    const auto by_bytes = [](const Cost& a, const Cost& b) {
      return a.bytes != b.bytes ? a.bytes < b.bytes : a.error < b.error;
    };
    Cost at = *std::min_element(choices.begin(), choices.end(), by_bytes);
    while (true) {
      const auto allocation = cdna::allocate(tensors, at.bytes);
      REQUIRE(allocation);
      REQUIRE(allocation->weighted_error == Approx(at.error).margin(1e-12));
      ++steps;
      const Cost* next = nullptr;
      double steepest = 0;
      for (const Cost& choice : choices) {
        if (choice.bytes <= at.bytes || choice.error >= at.error) continue;
        const double price = (at.error - choice.error) / static_cast<double>(choice.bytes - at.bytes);
        if (price > steepest * (1 + 1e-12)) {
          steepest = price;
          next = &choice;
        } else if (price >= steepest * (1 - 1e-12) && choice.bytes > next->bytes) {
          next = &choice;
        }
      }
      if (next == nullptr) break;
      at = *next;
    }
  }
  REQUIRE(steps > 500);
}

TEST_CASE("planner: more budget never gives more error") {
  INFO("seed " << kSeed);
  std::mt19937 random(kSeed + 2);
  for (int round = 0; round < 300; ++round) {
    const auto tensors = random_tensors(random, 1 + random() % 12, 7);
    const cdna::AllocationRange range = cdna::allocation_range(tensors);
    double before = INFINITY;
    for (std::uint64_t budget = range.bytes_min; budget <= range.bytes_max + 2; ++budget) {
      const double error = cdna::allocate(tensors, budget)->weighted_error;
      REQUIRE(error <= before);
      before = error;
    }
  }
}

TEST_CASE("planner: below the least possible the error says the least possible") {
  const std::vector<AllocationTensor> tensors{{1, {{10, 1}, {20, 0.5}}}, {1, {{7, 0}}}};
  const auto allocation = cdna::allocate(tensors, 16);
  REQUIRE(!allocation);
  CHECK(allocation.error().code == Code::bad_argument);
  CHECK(allocation.error().message == "the least possible is 17 bytes, the budget 16");
  CHECK(cdna::allocate(tensors, 17)->tensors[0].point == 0);
  CHECK(cdna::allocate(tensors, 27)->tensors[0].point == 1);
  CHECK(cdna::allocate(tensors, UINT64_MAX)->stored_bytes == 27);
  CHECK(cdna::allocate({}, 0)->stored_bytes == 0);
}

TEST_CASE("planner: equal prices are taken in the order of the tensors") {
  const AllocationTensor tensor{1, {{10, 1}, {20, 0.5}}};
  const auto allocation = cdna::allocate(std::vector(3, tensor), 40);
  REQUIRE(allocation);
  CHECK(allocation->tensors[0].point == 1);
  CHECK(allocation->tensors[1].point == 0);
  CHECK(allocation->tensors[2].point == 0);
  CHECK(allocation->price == 0.05);
  CHECK(allocation->tensors[0].price_paid == 0.05);
  CHECK(allocation->tensors[0].price_wanted == 0);
  CHECK(allocation->tensors[1].price_paid == 0);
  CHECK(allocation->tensors[1].price_wanted == 0.05);
}

TEST_CASE("planner: points above the hull, dominated points and the order of points do not matter") {
  // The second is above the line from the first to the third, the fourth is larger and worse than the third.
  const AllocationTensor tensor{2, {{10, 1}, {15, 0.9}, {20, 0.25}, {30, 0.5}, {20, 0.3}}};
  AllocationTensor reversed = tensor;
  std::reverse(reversed.points.begin(), reversed.points.end());
  for (std::uint64_t budget = 10; budget < 40; ++budget) {
    const std::size_t point = cdna::allocate(std::vector{tensor}, budget)->tensors[0].point;
    CHECK(point == (budget < 20 ? 0U : 2U));
    CHECK(cdna::allocate(std::vector{reversed}, budget)->tensors[0].point == 4 - point);
  }
}

TEST_CASE("planner: a larger tensor is worth more bits only if its error is") {
  // Equal relative errors: a byte saves the same in both, and all bytes go where the price is highest.
  const std::vector<OperatingPoint> small{{100, 0.01}, {200, 0.0001}};
  const std::vector<OperatingPoint> large{{1000, 0.01}, {2000, 0.0001}};
  const std::vector<OperatingPoint> rough{{1000, 0.1}, {2000, 0.001}};
  const auto even = cdna::allocate(std::vector<AllocationTensor>{{800, small}, {8000, large}}, 2999);
  CHECK(even->tensors[0].point == 1);
  CHECK(even->tensors[1].point == 1);
  const auto uneven = cdna::allocate(std::vector<AllocationTensor>{{800, small}, {8000, rough}}, 2150);
  CHECK(uneven->tensors[0].point == 0);
  CHECK(uneven->tensors[1].point == 1);
}

TEST_CASE("planner: a tensor that is measured whole has the size and the error that the writer reports") {
  const std::vector<std::vector<std::byte>> data{normal_values(96 * 128, 0.02F)};
  const std::vector<std::uint64_t> shape{96, 128};
  const std::vector<Preset> presets{preset("cb8"), preset("exact")};
  const auto points = cdna::measure(
      std::vector<cdna::TrialTensor>{{"w", DType::f32, shape, cdna::Role::matrix, presets}}, reader_of(data));
  REQUIRE(points);
  std::vector<std::byte> file;
  auto writer = cdna::Writer::create(cdna::memory_sink(file));
  REQUIRE(writer);
  const auto read = reader_of(data);
  const auto bytes = [&read](std::uint64_t offset, std::span<std::byte> out) { return read(0, offset, out); };
  const cdna::TensorSpec spec{"w", DType::f32, shape, cdna::Role::matrix, cdna::Codec::raw, cdna::Filter::none};
  const auto coded = writer->add_codebook(spec, presets[0].codebook, bytes);
  REQUIRE(coded);
  const cdna::WrittenItem& written = writer->written(*coded);
  CHECK((*points)[0][0].stored_bytes == written.stored_bytes);
  CHECK((*points)[0][0].relative_error == written.statistics.sum_squared_error / written.statistics.sum_squares);
  cdna::TensorSpec exact = spec;
  exact.name = "e";
  const auto raw = writer->add_exact(exact, bytes);
  REQUIRE(raw);
  CHECK((*points)[0][1].stored_bytes == writer->written(*raw).stored_bytes);
  CHECK((*points)[0][1].relative_error == 0);
}

TEST_CASE("planner: a sample of the rows is within 0.5 % of the whole's size and 0.2 dB of its error") {
  const std::vector<std::vector<std::byte>> data{normal_values(2048 * 256, 0.02F)};
  for (const char* name : {"cb8", "cb4g32", "cb6g64,outliers=0.001"}) {
    INFO(name);
    const std::vector<cdna::TrialTensor> tensors{{"w", DType::f32, {2048, 256}, cdna::Role::matrix, {preset(name)}}};
    cdna::TrialOptions sampled;
    sampled.values_max = 1 << 17;
    const auto whole = cdna::measure(tensors, reader_of(data));
    const auto part = cdna::measure(tensors, reader_of(data), sampled);
    REQUIRE(whole);
    REQUIRE(part);
    const OperatingPoint& all = (*whole)[0][0];
    const OperatingPoint& some = (*part)[0][0];
    CHECK(static_cast<double>(some.stored_bytes) == Approx(static_cast<double>(all.stored_bytes)).epsilon(0.005));
    CHECK(std::abs(10 * std::log10(some.relative_error / all.relative_error)) < 0.2);
  }
}

TEST_CASE("planner: measuring does not depend on the number of threads") {
  std::vector<std::vector<std::byte>> data;
  std::vector<cdna::TrialTensor> tensors;
  for (std::uint64_t rows : {64U, 100U, 300U, 7U}) {
    data.push_back(normal_values(rows * 128, 0.01F));
    tensors.push_back({"w", DType::f32, {rows, 128}, cdna::Role::matrix, {preset("cb8"), preset("exact-z")}});
  }
  cdna::TrialOptions options;
  options.values_max = 1 << 13;
  const auto points_with = [&](unsigned threads) {
    options.threads = threads;
    const auto points = cdna::measure(tensors, reader_of(data), options);
    REQUIRE(points);
    std::vector<double> flat;
    for (const auto& tensor : *points) {
      for (const OperatingPoint& point : tensor) {
        flat.push_back(static_cast<double>(point.stored_bytes));
        flat.push_back(point.relative_error);
      }
    }
    return flat;
  };
  const std::vector<double> one = points_with(1);
  CHECK(points_with(2) == one);
  CHECK(points_with(8) == one);
}

TEST_CASE("planner: empty tensors, packed dtypes, long rows and zeros can be measured") {
  const std::vector<std::vector<std::byte>> data{{},
                                                 std::vector<std::byte>(3),
                                                 std::vector<std::byte>(std::size_t{1} << 24 | 1),
                                                 std::vector<std::byte>(64 * 64 * 4)};
  const std::uint64_t long_row = (1U << 24) + 1;
  for (const cdna::Codec codec : {cdna::Codec::raw, cdna::Codec::zstd}) {
    cdna::TrialOptions options;
    options.codec = codec;
    const auto points = cdna::measure(
        std::vector<cdna::TrialTensor>{{"empty", DType::f32, {0, 64}, cdna::Role::matrix, {preset("exact")}},
                                       {"packed", DType::f6_e2m3, {2, 2}, cdna::Role::matrix, {preset("exact")}},
                                       {"long", DType::u8, {1, long_row}, cdna::Role::matrix, {preset("exact")}},
                                       {"zeros", DType::f32, {64, 64}, cdna::Role::matrix, {preset("cb8")}}},
        reader_of(data), options);
    REQUIRE(points);
    CHECK((*points)[0][0].stored_bytes == 0);
    CHECK((*points)[1][0].stored_bytes == 3 + 64);
    if (codec == cdna::Codec::raw) CHECK((*points)[2][0].stored_bytes == long_row + 17 * 64);
    if (codec == cdna::Codec::zstd) CHECK((*points)[2][0].stored_bytes < long_row / 100);
    CHECK((*points)[3][0].relative_error == 0);
  }
}

TEST_CASE("planner: measuring stops on request, and says whose read failed") {
  const std::vector<cdna::TrialTensor> tensors{{"a", DType::f32, {64, 64}, cdna::Role::matrix, {preset("cb8")}},
                                               {"b", DType::f32, {64, 64}, cdna::Role::matrix, {preset("cb8")}}};
  const std::vector<std::vector<std::byte>> data(2, normal_values(64 * 64, 1));
  const std::atomic<bool> stop{true};
  cdna::TrialOptions options;
  options.stop = &stop;
  const auto stopped = cdna::measure(tensors, reader_of(data), options);
  REQUIRE(!stopped);
  CHECK(stopped.error().code == Code::cancelled);
  const auto failing = [&data](std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) {
    if (tensor == 0) return reader_of(data)(tensor, offset, out);
    cdna::Error error;
    error.message = "no";
    return cdna::Result<void>(error);
  };
  const auto failed = cdna::measure(tensors, failing);
  REQUIRE(!failed);
  CHECK(failed.error().item == "b");
  CHECK(failed.error().message == "no");
}
