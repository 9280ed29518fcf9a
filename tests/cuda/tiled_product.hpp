// Products by the block or wgmma loop on the emulated device, beside float64: what both loops' tests share.
#pragma once

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "../../kernels/cuda/loops.h"
#include "emulator.h"
#include "float_matrix.hpp"
#include "random_weights.hpp"

namespace cdna::test {

struct TiledLoop {
  cdna_cuda::LinearPlan (*plan)(const cdna_cuda::LinearCall&, const cdna_cuda::Device&);
  cdna_cuda::Outcome (*run)(const cdna_cuda::LinearCall&, const cdna_cuda::LinearPlan&, const cdna_cuda::Device&);
};

// An H200, as the emulator's settings are.
inline cdna_cuda::Device tiled_device() { return {9, 0, 132, std::size_t{227} * 1024, std::size_t{228} * 1024}; }

struct TiledCase {
  std::uint32_t m = 0;
  cdna_cuda::Float x_type = cdna_cuda::Float::f16;
  cdna_cuda::Float y_type = cdna_cuda::Float::f32;
  std::vector<RandomWeightsOptions> segments;
  bool bias = false;
  std::size_t x_offset = 0;   // Elements behind an aligned address.
  std::size_t x_padding = 8;  // Of rows of x, elements.
  std::size_t y_offset = 0;
  std::size_t y_padding = 3;
  std::uint64_t seed = 1;
  std::uint64_t order = 1;  // Of the emulated threads and blocks.
  cdna_cuda::Device device = tiled_device();
};

inline std::string describe(const TiledCase& c) {
  std::string text = "m " + std::to_string(c.m) + (c.x_type == cdna_cuda::Float::f16 ? " f16" : " bf16") + " seed " +
                     std::to_string(c.seed) + " order " + std::to_string(c.order);
  for (const RandomWeightsOptions& s : c.segments) {
    text += "; " + std::to_string(s.rows) + " x " + std::to_string(s.cols) + ", " + std::to_string(s.bits) +
            " bits, curve " + std::to_string(static_cast<int>(s.curve)) + ", row scales " +
            std::to_string(static_cast<int>(s.row_scales)) + ", group scales " +
            std::to_string(static_cast<int>(s.group_scale_type)) + " of " + std::to_string(s.group) + ", outliers " +
            std::to_string(s.outlier_part);
  }
  return text;
}

// Half a unit in the last place, relative.
inline double half_ulp(cdna_cuda::Float type) {
  return type == cdna_cuda::Float::f16 ? 0x1p-11 : type == cdna_cuda::Float::bf16 ? 0x1p-8 : 0x1p-24;
}

// What linear.h allows: sums in f32; w / row scale rounded once where it is not an f16 number already (2^-25 of the row
// scale where that is subnormal); y rounded. Plus 2^-22 for the roundings of W's own definition, of scale and of bias.
inline double error_bound(const TiledCase& c, const RandomWeights& weights, std::uint32_t row, double magnitude,
                          double x_sum, double exact) {
  const RandomWeightsOptions& options = weights.options;
  const bool rounded = c.x_type == cdna_cuda::Float::bf16 || options.outlier_part > 0 ||
                       options.group_scale_type != cdna_cuda::ScaleType::none;
  const double row_scale = options.row_scales ? weights.row_scales[row] : 1.0;
  const double sums = (options.cols + 16.0) * 0x1p-24 + 0x1p-22;
  return magnitude * (sums + (rounded ? half_ulp(c.x_type) : 0)) + (rounded ? 0x1p-25 * row_scale * x_sum : 0) +
         (std::abs(exact) + 1) * 1.01 * (half_ulp(c.y_type) + 0x1p-22);
}

struct TiledProductRun {
  cdna_cuda::LinearPlan plan;
  std::vector<std::byte> y;
};

// Multiplies and compares; the bytes of y.
inline TiledProductRun check_tiled(const TiledLoop& loop, const TiledCase& c) {
  using namespace cdna_cuda;
  INFO(describe(c));
  Random random(c.seed);
  const std::uint32_t cols = c.segments[0].cols;
  FloatMatrix x(c.x_type, c.m, cols, cols + c.x_padding, c.x_offset);
  x.fill(&random);

  std::deque<RandomWeights> weights;
  std::deque<FloatMatrix> biases;
  std::vector<Segment> segments;
  std::uint64_t y_column = 2;  // Two columns that belong to nobody.
  for (const RandomWeightsOptions& options : c.segments) {
    weights.emplace_back(options, c.seed + segments.size());
    biases.emplace_back(c.y_type, 1, options.rows, options.rows);
    biases.back().fill(&random);
    segments.push_back({weights.back().weights(), c.bias ? biases.back().data() : nullptr, y_column});
    y_column += options.rows;
  }
  FloatMatrix y(c.y_type, c.m, y_column, y_column + c.y_padding, c.y_offset);

  LinearCall call;
  call.segments = segments.data();
  call.segment_count = static_cast<unsigned>(segments.size());
  call.x = x.data();
  call.x_type = c.x_type;
  call.x_stride = x.stride();
  call.m = c.m;
  call.y = y.data();
  call.y_type = c.y_type;
  call.y_stride = y.stride();

  emulator::reset();
  emulator::settings().seed = c.order;
  emulator::settings().shared_bytes_per_block_max = c.device.shared_bytes_per_block_max;
  const LinearPlan plan = loop.plan(call, c.device);
  REQUIRE(plan.outcome.status == Status::ok);
  CHECK(plan.workspace_bytes == 0);
  const Outcome outcome = loop.run(call, plan, c.device);
  REQUIRE(outcome.status == Status::ok);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  REQUIRE(emulator::failure().empty());
  CHECK(emulator::counts().blocks == plan.blocks);

  const std::vector<double> x_values = x.values();
  for (std::size_t s = 0; s < segments.size(); ++s) {
    const Product expected = product(weights[s], x_values, c.m);
    const std::uint32_t rows = c.segments[s].rows;
    double worst = 0;  // Error over bound.
    for (std::uint32_t i = 0; i < c.m; ++i) {
      double x_sum = 0;
      for (std::uint32_t k = 0; k < cols; ++k) x_sum += std::abs(x_values[std::size_t{i} * cols + k]);
      for (std::uint32_t r = 0; r < rows; ++r) {
        const std::size_t place = std::size_t{i} * rows + r;
        const double exact = expected.exact[place] + (c.bias ? biases[s].at(0, r) : 0);
        const double error = std::abs(y.at(i, segments[s].y_column + r) - exact);
        const double bound = error_bound(c, weights[s], r, expected.magnitude[place], x_sum, exact);
        worst = error <= bound ? std::max(worst, error / bound) : INFINITY;  // Not a number is too far off as well.
      }
    }
    INFO("segment " << s);
    CHECK(worst <= 1);
  }
  CHECK(y.poisoned_outside(2, y_column));
  return {plan, y.bytes()};
}

}  // namespace cdna::test
