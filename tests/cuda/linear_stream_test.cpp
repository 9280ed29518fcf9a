// The stream loop against float64, on the emulated device: every width, scale, type and shape of the edges.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "../../kernels/cuda/emulator/emulator.h"
#include "../../kernels/cuda/loops.h"
#include "../../kernels/cuda/stream.h"
#include "../../kernels/cuda/stream_x.h"
#include "float_matrix.hpp"
#include "random_weights.hpp"

namespace {

using namespace cdna_cuda;
using cdna::test::FloatMatrix;
using cdna::test::Product;
using cdna::test::Random;
using cdna::test::RandomWeights;
using cdna::test::RandomWeightsOptions;

Device h200() { return {9, 0, 132, 227 * 1024, 228 * 1024}; }

// One call with everything that belongs to it. Segments stand side by side in y, with a column between them.
struct Problem {
  Problem(const std::vector<RandomWeightsOptions>& matrices, std::uint32_t m, Float x_type, Float y_type,
          std::uint64_t seed, bool with_bias = false, std::size_t x_offset = 0, std::size_t x_gap = 0)
      : x(x_type, m, matrices[0].cols, matrices[0].cols + x_gap, x_offset), y(y_type, 0, 0, 0) {
    Random random(seed);
    std::size_t column = 1;
    for (const RandomWeightsOptions& options : matrices) {
      weights.push_back(std::make_unique<RandomWeights>(options, random.next()));
      biases.emplace_back(y_type, 1, options.rows, options.rows);
      biases.back().fill(&random);
      Segment segment;
      segment.weights = weights.back()->weights();
      segment.bias = with_bias ? biases.back().data() : nullptr;
      segment.y_column = column;
      segments.push_back(segment);
      column += options.rows + 1;
    }
    x.fill(&random);
    y = FloatMatrix(y_type, m, column, column + 2, 3);
    call.segments = segments.data();
    call.segment_count = static_cast<unsigned>(segments.size());
    call.x = x.data();
    call.x_type = x_type;
    call.x_stride = x.stride();
    call.m = m;
    call.y = y.data();
    call.y_type = y_type;
    call.y_stride = y.stride();
    call.loop = Loop::stream;
  }
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;

  // Runs the call with the order of threads of `order`, in a poisoned workspace.
  void run(std::uint64_t order = 1) {
    y = FloatMatrix(y.type(), y.rows(), y.cols(), static_cast<std::size_t>(y.stride()), 3);
    call.y = y.data();
    emulator::settings().seed = order;
    const LinearPlan planned = plan(call, h200());
    REQUIRE(std::string(planned.outcome.reason).empty());
    workspace.assign(planned.workspace_bytes / 4 + 64, std::nanf(""));
    call.workspace = reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(workspace.data()) + 255) / 256 * 256);
    call.workspace_bytes = planned.workspace_bytes;
    if (planned.workspace_bytes > 0) std::memset(call.workspace, 0, 4096);
    REQUIRE(linear(call, h200()).status == Status::ok);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    REQUIRE(emulator::failure().empty());
    if (planned.workspace_bytes > 0) {
      const auto* const counters = static_cast<const std::uint32_t*>(call.workspace);
      CHECK(std::all_of(counters, counters + 1024, [](std::uint32_t counter) { return counter == 0; }));
    }
  }

  // Every element of y is as near to the product as linear.h says, and nothing else was written. Rows of x that
  // `skip` names are not looked at.
  void check(const std::set<std::size_t>& skip = {}) {
    const std::vector<double> xs = x.values();
    FloatMatrix rest = y;
    for (std::size_t s = 0; s < segments.size(); ++s) {
      const Product expected = product(*weights[s], xs, call.m);
      const std::vector<double> ones(x.cols(), 1.0);
      const Product row_sums = product(*weights[s], ones, 1);
      double worst = 0;  // In bounds.
      for (std::size_t i = 0; i < call.m; ++i) {
        double largest = 0;
        for (std::size_t k = 0; k < x.cols(); ++k) largest = std::max(largest, std::abs(xs[i * x.cols() + k]));
        for (std::size_t r = 0; r < weights[s]->options.rows; ++r) {
          if (skip.count(i) != 0) continue;
          const double bias = segments[s].bias == nullptr ? 0 : biases[s].at(0, r);
          const std::size_t place = i * weights[s]->options.rows + r;
          const double exact = expected.exact[place] + bias;
          const double limit = bound(expected.magnitude[place], largest * row_sums.magnitude[r], exact, bias);
          const double error = std::abs(y.at(i, segments[s].y_column + r) - exact);
          if (!(error <= limit))
            INFO("row of x " << i << " row of W " << r << " error " << error << " bound " << limit);
          worst = std::max(worst, std::isnan(error) ? std::numeric_limits<double>::infinity() : error / limit);
        }
      }
      INFO("segment " << s << " bits " << weights[s]->options.bits);
      CHECK(worst <= 1.0);
    }
    for (std::size_t i = 0; i < call.m; ++i) {
      for (std::size_t s = 0; s < segments.size(); ++s) {
        const std::size_t end = segments[s].y_column + weights[s]->options.rows;
        for (std::size_t column = segments[s].y_column; column < end; ++column) rest.poison(i, column);
      }
    }
    CHECK(rest.poisoned_outside(0, 0));
  }

  FloatMatrix x;
  FloatMatrix y;
  std::vector<std::unique_ptr<RandomWeights>> weights;
  std::vector<FloatMatrix> biases;
  std::vector<Segment> segments;
  std::vector<float> workspace;
  LinearCall call;

 private:
  double bound(double magnitude, double largest_times_row, double exact, double bias) const {
    constexpr double u = 0x1p-24;
    double limit = (static_cast<double>(x.cols()) + 16) * u * magnitude + u * std::abs(bias);
    if (x.type() == Float::bf16) limit += 0x1p-8 * magnitude;
    if (x.type() == Float::f32) limit += 0x1p-21 * magnitude + 0x1p-38 * largest_times_row;
    const double rounding = y.type() == Float::f16 ? 0x1p-11 : y.type() == Float::bf16 ? 0x1p-8 : u;
    const double smallest = y.type() == Float::f16 ? 0x1p-25 : 0x1p-149;
    return limit + (std::abs(exact) + limit) * rounding + smallest;
  }
};

struct Scales {
  bool row;
  ScaleType type;
  unsigned group;
};
const std::vector<Scales> kScales = {
    {false, ScaleType::none, 0}, {true, ScaleType::none, 0},  {true, ScaleType::u8, 32},  {false, ScaleType::u8, 64},
    {true, ScaleType::u8, 128},  {false, ScaleType::f32, 32}, {true, ScaleType::f32, 64}, {true, ScaleType::f32, 128},
};
const std::vector<std::uint32_t> kBatches = {1, 2, 3, 7, 8, 9, 16, 17, 33, 64, 65};
const std::vector<Float> kFloats = {Float::f16, Float::bf16, Float::f32};
struct Shape {
  std::uint32_t rows;
  std::uint32_t cols;
};
const std::vector<Shape> kShapes = {{33, 300}, {1, 1}, {17, 129}, {16, 128}, {50, 513}, {5, 1100}, {7, 8}};

void sweep(unsigned bits) {
  std::uint64_t number = 0;
  for (const Scales& scales : kScales) {
    for (const std::uint32_t m : kBatches) {
      const Shape shape = kShapes[number % (m < 17 ? kShapes.size() : 4)];
      const Curve curve = number % 4 == 1 ? Curve::affine : number % 4 == 2 && bits > 4 ? Curve::pwl : Curve::none;
      RandomWeightsOptions options{shape.rows, shape.cols,  bits,         curve,
                                   scales.row, scales.type, scales.group, number % 3 == 0 ? 0 : 0.02};
      std::vector<RandomWeightsOptions> matrices{options};
      if (number % 5 == 0) {
        options.rows = 19;
        options.outlier_part = 0.02 - options.outlier_part;
        matrices.push_back(options);
      }
      const Float x_type = kFloats[number / 2 % 3];
      const Float y_type = kFloats[number % 3];
      INFO("seed " << number << " bits " << bits << " m " << m << " rows " << shape.rows << " cols " << shape.cols
                   << " scales " << int(scales.type) << '/' << scales.group << " x " << int(x_type) << " y "
                   << int(y_type));
      Problem problem(matrices, m, x_type, y_type, number, number % 2 == 0, number % 7 == 3 ? 1 : 0,
                      number % 2 == 0 ? (16 - shape.cols % 8) % 16 : 3);
      problem.run(number);
      problem.check();
      ++number;
    }
  }
}

TEST_CASE("linear, stream: 4 bits") { sweep(4); }
TEST_CASE("linear, stream: 5 bits") { sweep(5); }
TEST_CASE("linear, stream: 6 bits") { sweep(6); }
TEST_CASE("linear, stream: 8 bits") { sweep(8); }

TEST_CASE("linear, stream: any number of splits, whoever comes last, gives the same numbers") {
  for (const Float x_type : kFloats) {
    for (unsigned splits = 1; splits <= 8; ++splits) {
      INFO("splits " << splits << " x " << int(x_type));
      Problem problem({{40, 900, 8, Curve::none, true, ScaleType::u8, 32, 0.01}}, 3, x_type, Float::f32, splits);
      problem.call.splits = splits;
      REQUIRE(plan(problem.call, h200()).splits == splits);
      problem.run(1);
      problem.check();
      const std::vector<std::byte> first = problem.y.bytes();
      for (std::uint64_t order = 2; order < 4; ++order) {
        problem.run(order);
        CHECK(problem.y.bytes() == first);
      }
    }
  }
}

TEST_CASE("linear, stream: x that does not fit in shared memory comes slab by slab") {
  for (const Float x_type : kFloats) {
    INFO("x " << int(x_type));
    Problem problem({{20, 900, 6, Curve::none, true, ScaleType::f32, 64, 0.01}}, 40, x_type, Float::f32, 11);
    problem.call.splits = 1;
    problem.run();
    problem.check();
  }
}

TEST_CASE("linear, stream: segments of different kinds in one call") {
  Problem problem({{20, 260, 8, Curve::none, true, ScaleType::u8, 64, 0.01},
                   {0, 260, 8, Curve::none, false, ScaleType::none, 0, 0},
                   {35, 260, 4, Curve::none, true, ScaleType::u8, 32, 0},
                   {3, 260, 8, Curve::none, false, ScaleType::u8, 128, 0},
                   {16, 260, 5, Curve::none, false, ScaleType::none, 0, 0.01}},
                  5, Float::bf16, Float::bf16, 3, true);
  problem.run();
  problem.check();
}

TEST_CASE("linear, stream: f32 of any size") {
  Problem problem({{20, 260, 8, Curve::none, true, ScaleType::none, 0, 0.01}}, 6, Float::f32, Float::f32, 5);
  const double factors[] = {0x1p100, 0x1p-100, 0, 1, 0x1p-140, 0x1p60};
  for (std::size_t i = 0; i < 6; ++i) {
    for (std::size_t k = 0; k < 260; ++k) {
      // The fourth row has numbers of very different sizes.
      problem.x.set(i, k, problem.x.at(i, k) * factors[i] * (i == 3 && k % 2 == 0 ? 0x1p-20 : 1));
    }
  }
  problem.run();
  problem.check({4});
  // Below the normal numbers, an f32 is what limits: its last place of each number and of what the row scale makes of
  // it.
  const Product expected = product(*problem.weights[0], problem.x.values(), 6);
  for (std::size_t r = 0; r < 20; ++r) CHECK(std::abs(problem.y.at(4, 1 + r) - expected.exact[4 * 20 + r]) < 0x1p-140);
}

TEST_CASE("linear, stream: infinities and NaN stay in their row of x, and never become numbers") {
  for (const Float x_type : kFloats) {
    for (const double intruder : {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()}) {
      INFO("x " << int(x_type) << " intruder " << intruder);
      Problem problem({{20, 300, 8, Curve::none, true, ScaleType::u8, 32, 0.01}}, 7, x_type, Float::f32, 6);
      problem.x.set(2, 150, intruder);
      problem.run();
      problem.check({2});
      for (std::size_t r = 0; r < 20; ++r) CHECK(!std::isfinite(problem.y.at(2, 1 + r)));
    }
  }
  Problem problem({{20, 300, 8, Curve::none, true, ScaleType::u8, 32, 0.01}}, 7, Float::f32, Float::f32, 6);
  problem.x.set(2, 150, std::numeric_limits<double>::quiet_NaN());
  problem.run();
  problem.check({2});
  for (std::size_t r = 0; r < 20; ++r) CHECK(std::isnan(problem.y.at(2, 1 + r)));
}

TEST_CASE("linear: nothing to do launches nothing") {
  const auto launches = [] { return emulator::counts().launches; };
  Problem problem({{20, 260, 8, Curve::none, true, ScaleType::none, 0, 0.01}}, 2, Float::f16, Float::f32, 5);
  const std::uint64_t before = launches();
  problem.call.m = 0;
  problem.call.x = nullptr;
  problem.call.y = nullptr;
  CHECK(linear(problem.call, h200()).status == Status::ok);
  Segment nothing;
  nothing.weights.cols = 260;
  problem.call.m = 2;
  problem.call.segments = &nothing;
  CHECK(linear(problem.call, h200()).status == Status::ok);
  CHECK(launches() == before);
}

TEST_CASE("linear: no columns gives the bias") {
  Problem problem({{20, 0, 8, Curve::none, true, ScaleType::u8, 32, 0}}, 2, Float::f16, Float::f32, 5, true);
  // Such a matrix has no codes and no scales: memory of any content.
  alignas(16) const unsigned char anything[16] = {};
  problem.segments[0].weights.group_scales = anything;
  problem.run();
  problem.check();
}

// Where x is staged: no two chunks in one place, none in the table's copies, and no bank conflicts.
TEST_CASE("linear, stream: chunks of x lie in the gaps of the table, without bank conflicts") {
  for (std::uint32_t staged = 1; staged <= kStreamColumnsMax; staged *= 2) {
    INFO("staged " << staged);
    std::set<std::uint32_t> offsets;
    const std::uint32_t chunks = 16 * staged_tiles_max(staged);
    for (std::uint32_t chunk = 0; chunk < chunks; ++chunk) {
      for (std::uint32_t column = 0; column < staged; ++column) {
        const std::uint32_t offset = chunk_offset(chunk, column, staged);
        CHECK(offset + 16 <= kTableBytes);
        CHECK(offset % kTableStride >= kTableStride / 2);
        offsets.insert(offset);
      }
      // The rows of one matrix of ldmatrix: columns that repeat are read once.
      std::set<std::uint32_t> banks;
      const std::uint32_t rows = std::min(staged, 8U);
      for (std::uint32_t row = 0; row < rows; ++row) banks.insert(chunk_offset(chunk, row, staged) % 128);
      CHECK(banks.size() == rows);
    }
    CHECK(offsets.size() == std::size_t{chunks} * staged);
    // Eight threads that write consecutive chunks of a column.
    for (std::uint32_t chunk = 0; chunk + 8 <= chunks; chunk += 8) {
      std::set<std::uint32_t> banks;
      for (std::uint32_t i = 0; i < 8; ++i) banks.insert(chunk_offset(chunk + i, staged - 1, staged) % 128);
      CHECK(banks.size() == 8);
    }
  }
}

StreamWork work_of(unsigned bits, std::uint64_t rows, std::uint64_t cols, std::uint32_t m) {
  StreamWork work;
  work.bits = bits;
  work.row_tiles[0] = tiles_of_rows(rows);
  work.segment_count = 1;
  work.column_tiles = tiles_of_columns(cols);
  work.m = m;
  return work;
}

TEST_CASE("linear, stream: the chosen shape has the least estimate, and keeps memory busy") {
  const Device device = h200();
  const Shape shapes[] = {{4096, 4096}, {8192, 8192}, {14336, 4096}, {4096, 14336}, {1024, 4096}, {49152, 12288}};
  for (const unsigned bits : {4U, 5U, 6U, 8U}) {
    for (const Shape shape : shapes) {
      for (const std::uint32_t m : {1U, 4U, 16U, 64U}) {
        INFO("bits " << bits << " rows " << shape.rows << " cols " << shape.cols << " m " << m);
        const StreamWork work = work_of(bits, shape.rows, shape.cols, m);
        const StreamShape best = choose_stream_shape(work, device, 0);
        REQUIRE(best.possible);
        for (unsigned warps = 1; warps <= kStreamWarps; warps *= 2) {
          for (unsigned splits = 1; splits <= 32; ++splits) {
            const StreamShape other = stream_shape(work, device, warps, splits);
            CHECK((!other.possible || other.clocks >= best.clocks));
          }
        }
        // Half of what Little's law asks for, 3.4 MB on their way, or nearly all of the matrix.
        const std::size_t tile = tile_bytes(bits);
        const double flying = static_cast<double>(best.row_blocks * best.splits * best.passes * kStreamWarps * tile *
                                                  row_tiles_per_warp(bits, best.column_tiles_of_b, work.scale));
        const double matrix = static_cast<double>(work.row_tiles[0] * work.column_tiles * tile);
        CHECK(flying >= std::min(1.7e6, 0.9 * matrix));
        const std::size_t parts = std::size_t{4} * best.splits * m * (shape.rows + 16 * kStreamWarps * 2);
        CHECK(best.workspace_bytes <= kCounterBytes + parts);
      }
    }
  }
}

TEST_CASE("linear: what cannot be done is refused, each with its reason, before anything is launched") {
  const auto refusal = [](const auto& change, const Device& device = h200()) {
    Problem problem({{20, 260, 8, Curve::none, true, ScaleType::u8, 64, 0.01},
                     {20, 260, 8, Curve::none, true, ScaleType::u8, 64, 0.01}},
                    2, Float::f16, Float::f16, 5, true);
    change(&problem);
    const std::uint64_t before = emulator::counts().launches;
    const Outcome outcome = linear(problem.call, device);
    CHECK(emulator::counts().launches == before);
    return std::string(outcome.status == Status::unsupported ? "unsupported: " : "bad: ") + outcome.reason;
  };
  const auto weights = [&refusal](const auto& change) {
    return refusal([&change](Problem* p) { change(&p->segments[1].weights); });
  };
  const auto call = [&refusal](const auto& change) { return refusal([&change](Problem* p) { change(&p->call); }); };

  CHECK(refusal([](Problem*) {}, {7, 5, 40, 64 * 1024, 64 * 1024}) ==
        "unsupported: the device is older than compute capability 8.0");
  CHECK(refusal([](Problem*) {}, {8, 0, 40, 64 * 1024, 64 * 1024}) ==
        "unsupported: the device has too little shared memory per block");
  CHECK(weights([](Weights* w) { w->bits = 7; }) == "unsupported: codes are not of 4, 5, 6 or 8 bits on the device");
  CHECK(weights([](Weights* w) { w->group = 16; }) == "unsupported: groups are not of 32, 64 or 128 columns");
  CHECK(weights([](Weights* w) { w->group_scale_type = ScaleType::none; }) ==
        "bad: a group without a type of group scales");
  CHECK(weights([](Weights* w) { w->group_scale_type = ScaleType{7}; }) ==
        "unsupported: group scales are neither u8 nor f32");
  CHECK(weights([](Weights* w) { w->group_scales = nullptr; }) == "bad: no group scales");
  CHECK(weights([](Weights* w) { w->scale_table = nullptr; }) == "bad: no scale table");
  CHECK(weights([](Weights* w) { w->tiles = nullptr; }) == "bad: no codes");
  CHECK(weights([](Weights* w) { w->codebook = nullptr; }) == "bad: no codebook");
  CHECK(weights([](Weights* w) { w->codebook += 1; }) == "bad: a part of the weights is not aligned to 16 bytes");
  CHECK(weights([](Weights* w) { w->outlier_deltas = nullptr; }) == "bad: outliers without places, values or deltas");
  CHECK(weights([](Weights* w) { w->cols = 300; }) == "bad: segments have different numbers of columns");
  CHECK(weights([](Weights* w) { w->rows = 0xFFFFFFFFU; }) == "bad: rows of y are longer than its stride");
  CHECK(refusal([](Problem* p) {
          for (Segment& segment : p->segments) segment.weights.cols = 1U << 28;
        }) == "unsupported: 2^28 columns or more");
  CHECK(refusal([](Problem* p) { p->segments[1].y_column = 5; }) == "bad: segments overlap in y");
  CHECK(refusal([](Problem* p) { p->segments[1].bias = static_cast<const char*>(p->segments[1].bias) + 1; }) ==
        "bad: a bias is not aligned to its element");
  CHECK(call([](LinearCall* c) { c->segment_count = 9; }) == "unsupported: more than 8 segments");
  CHECK(call([](LinearCall* c) { c->segment_count = 0; }) == "bad: no segments");
  CHECK(call([](LinearCall* c) { c->segments = nullptr; }) == "bad: no segments");
  CHECK(call([](LinearCall* c) { c->x_type = Float{9}; }) == "unsupported: x or y is not f16, bf16 or f32");
  CHECK(call([](LinearCall* c) { c->x = nullptr; }) == "bad: no x");
  CHECK(call([](LinearCall* c) { c->y = nullptr; }) == "bad: no y");
  CHECK(call([](LinearCall* c) { c->x = static_cast<const char*>(c->x) + 1; }) ==
        "bad: x is not aligned to its element");
  CHECK(call([](LinearCall* c) { c->y = static_cast<char*>(c->y) + 1; }) == "bad: y is not aligned to its element");
  CHECK(call([](LinearCall* c) { c->x_stride = 259; }) == "bad: rows of x are longer than its stride");
  CHECK(call([](LinearCall* c) { c->x_stride = -260; }) == "bad: rows of x are longer than its stride");
  CHECK(call([](LinearCall* c) { c->y_stride = 41; }) == "bad: rows of y are longer than its stride");
  const auto split = [&call](std::size_t offset, std::size_t bytes) {
    return call([offset, bytes](LinearCall* c) {
      static std::vector<std::byte> memory(1 << 20);
      c->splits = 2;
      c->workspace =
          reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(memory.data()) + 255) / 256 * 256 + offset);
      if (bytes == 0) c->workspace = nullptr;
      c->workspace_bytes = bytes;
    });
  };
  CHECK(split(0, 0) == "bad: no workspace");
  CHECK(split(0, 4096) == "bad: the workspace is smaller than planned");
  CHECK(split(16, 1 << 19) == "bad: the workspace is not aligned to 256 bytes");
}

TEST_CASE("linear: a device's facts") {
  Device device;
  CHECK(query_device(0, &device).status == Status::ok);
  CHECK(device.major == 9);
  CHECK(device.multiprocessors == 132);
  CHECK(device.shared_bytes_per_block_max == 227 * 1024);
  CHECK(device.shared_bytes_per_multiprocessor == 228 * 1024);
  CHECK(query_device(7, &device).status == Status::device_error);
  emulator::settings().major = 7;
  CHECK(query_device(0, &device).status == Status::unsupported);
  emulator::settings().major = 9;
}

}  // namespace
