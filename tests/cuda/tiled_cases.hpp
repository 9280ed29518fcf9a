// The cases of the block and wgmma loops alike: included where kLoop says which of them it is.
#pragma once

#include "tiled_product.hpp"

namespace cdna::test {
namespace {

using namespace cdna_cuda;

RandomWeightsOptions matrix(std::uint32_t rows, std::uint32_t cols, unsigned bits) {
  RandomWeightsOptions options;
  options.rows = rows;
  options.cols = cols;
  options.bits = bits;
  return options;
}

TEST_CASE("tiled product: every width, kind of scale and type, with and without outliers") {
  std::uint64_t seed = 100;
  for (const unsigned bits : {4U, 5U, 6U, 8U}) {
    for (const Float x_type : {Float::f16, Float::bf16}) {
      for (const ScaleType type : {ScaleType::none, ScaleType::u8, ScaleType::f32}) {
        for (const unsigned group : {32U, 64U, 128U}) {
          if (type == ScaleType::none && group != 32) continue;
          TiledCase c;
          c.seed = ++seed;
          c.order = seed;
          c.m = seed % 4 == 0 ? 65 : 1 + static_cast<std::uint32_t>(seed % 7);
          c.x_type = x_type;
          c.bias = seed % 2 == 0;
          c.segments = {matrix(37 + 8 * static_cast<std::uint32_t>(seed % 3), seed % 2 == 0 ? 136 : 328, bits)};
          c.segments[0].row_scales = seed % 3 != 0;
          c.segments[0].group_scale_type = type;
          c.segments[0].group = type == ScaleType::none ? 0 : group;
          c.segments[0].outlier_part = seed % 2 == 0 ? 0.01 : 0;
          check_tiled(kLoop, c);
        }
      }
    }
  }
}

TEST_CASE("tiled product: computed entries, and lines that the table takes") {
  std::uint64_t seed = 200;
  for (const Curve curve : {Curve::affine, Curve::pwl}) {
    for (const Float x_type : {Float::f16, Float::bf16}) {
      for (const ScaleType type : {ScaleType::none, ScaleType::u8, ScaleType::f32}) {
        TiledCase c;
        c.seed = ++seed;
        c.m = 5;
        c.x_type = x_type;
        c.segments = {matrix(40, 200, 8)};
        c.segments[0].curve = curve;
        c.segments[0].row_scales = true;
        c.segments[0].group_scale_type = type;
        c.segments[0].group = type == ScaleType::none ? 0 : 64;
        c.segments[0].outlier_part = seed % 2 == 0 ? 0.02 : 0;
        check_tiled(kLoop, c);
      }
    }
  }
}

TEST_CASE("tiled product: many outliers, more than a warp holds at a time") {
  for (const Float x_type : {Float::f16, Float::bf16}) {
    TiledCase c;
    c.m = 3;
    c.seed = 300;
    c.x_type = x_type;
    c.segments = {matrix(48, 400, 8)};
    c.segments[0].row_scales = true;
    c.segments[0].outlier_part = 0.2;
    check_tiled(kLoop, c);
  }
}

TEST_CASE("tiled product: batches around the tile's width, outputs of every type") {
  std::uint64_t seed = 400;
  for (const std::uint32_t m : {1U, 65U, 128U, 129U, 256U, 300U}) {
    TiledCase c;
    c.seed = ++seed;
    c.m = m;
    c.y_type = m % 3 == 0 ? Float::f16 : m % 3 == 1 ? Float::bf16 : Float::f32;
    c.bias = true;
    c.segments = {matrix(m == 300 ? 150 : 33, 72, m == 300 ? 8 : 4)};
    c.segments[0].row_scales = true;
    check_tiled(kLoop, c);
  }
}

TEST_CASE("tiled product: rows and columns that are no multiples of anything") {
  std::uint64_t seed = 500;
  for (const std::uint32_t rows : {1U, 15U, 17U, 129U}) {
    for (const std::uint32_t cols : {1U, 63U, 65U, 131U}) {
      TiledCase c;
      c.seed = ++seed;
      c.m = 9;
      c.x_padding = seed % 5;
      c.y_type = seed % 2 == 0 ? Float::f16 : Float::f32;
      c.segments = {matrix(rows, cols, seed % 2 == 0 ? 6 : 5)};
      c.segments[0].row_scales = true;
      c.segments[0].outlier_part = 0.005;
      check_tiled(kLoop, c);
    }
  }
}

TEST_CASE("tiled product: x and y at any address of an element") {
  for (const std::size_t offset : {0U, 1U, 4U, 8U}) {
    TiledCase c;
    c.seed = 600 + offset;
    c.m = 66;
    c.x_offset = offset;
    c.y_offset = offset + 6;  // With the two columns in front a multiple of 8 for 0 and 8.
    c.y_padding = offset == 0 ? 6 : 1;
    c.y_type = Float::f16;
    c.segments = {matrix(40, 192, 8)};
    check_tiled(kLoop, c);
  }
}

TEST_CASE("tiled product: segments of several kinds stand side by side") {
  TiledCase c;
  c.seed = 700;
  c.m = 70;
  c.bias = true;
  c.y_type = Float::bf16;
  c.segments = {matrix(20, 136, 8), matrix(130, 136, 4), matrix(1, 136, 8), matrix(16, 136, 6)};
  c.segments[1].row_scales = true;
  c.segments[1].group_scale_type = ScaleType::u8;
  c.segments[1].group = 32;
  c.segments[2].row_scales = true;
  c.segments[2].outlier_part = 0.1;
  check_tiled(kLoop, c);
}

TEST_CASE("tiled product: no order of threads and blocks changes a bit") {
  TiledCase c;
  c.seed = 800;
  c.m = 260;
  c.y_type = Float::f16;
  c.segments = {matrix(140, 328, 8)};
  c.segments[0].row_scales = true;
  c.segments[0].group_scale_type = ScaleType::u8;
  c.segments[0].group = 64;
  c.segments[0].outlier_part = 0.01;
  const std::vector<std::byte> first = check_tiled(kLoop, c).y;
  for (const std::uint64_t order : {2U, 3U, 4U}) {
    c.order = order;
    CHECK(check_tiled(kLoop, c).y == first);
  }
}

LinearCall call_of(const Segment& segment) {
  LinearCall call;
  call.segments = &segment;
  call.segment_count = 1;
  call.x_stride = segment.weights.cols;
  call.y_stride = segment.weights.rows;
  call.m = 300;
  return call;
}

TEST_CASE("tiled product: refuses what it cannot do") {
  Segment segment;
  segment.weights.rows = 1000;
  segment.weights.cols = 512;
  segment.weights.bits = 8;
  LinearCall call = call_of(segment);
  CHECK(kLoop.plan(call, tiled_device()).outcome.status == Status::ok);

  SECTION("x in f32") {
    call.x_type = Float::f32;
    CHECK(kLoop.plan(call, tiled_device()).outcome.status == Status::unsupported);
  }
  SECTION("outliers that are too large beside their row scale") {
    segment.weights.outliers_fit_f16 = false;
    CHECK(kLoop.plan(call, tiled_device()).outcome.status == Status::ok);  // There are none.
    const std::uint32_t begin = 0;
    segment.weights.outlier_begin = &begin;
    CHECK(kLoop.plan(call, tiled_device()).outcome.status == Status::unsupported);
  }
  SECTION("group scales that make too much of an entry, for f16") {
    segment.weights.scaled_fit_f16 = false;
    CHECK(kLoop.plan(call, tiled_device()).outcome.status == Status::ok);  // There are none.
    segment.weights.group_scale_type = ScaleType::f32;
    CHECK(kLoop.plan(call, tiled_device()).outcome.status == Status::unsupported);
    call.x_type = Float::bf16;
    CHECK(kLoop.plan(call, tiled_device()).outcome.status == Status::ok);
  }
  SECTION("no columns") {
    segment.weights.cols = 0;
    CHECK(kLoop.plan(call, tiled_device()).outcome.status == Status::unsupported);
  }
  SECTION("too little shared memory") {
    Device device = tiled_device();
    device.shared_bytes_per_block_max = std::size_t{64} * 1024;
    CHECK(kLoop.plan(call, device).outcome.status == Status::unsupported);
  }
  SECTION("more blocks than a grid has") {
    segment.weights.rows = 0xFFFFFFFFU;
    call.m = 0xFFFFFFFFU;
    CHECK(kLoop.plan(call, tiled_device()).outcome.status == Status::unsupported);
  }
}

TEST_CASE("tiled product: nothing to do launches nothing") {
  Segment segment;
  segment.weights.cols = 512;
  segment.weights.bits = 8;
  LinearCall call = call_of(segment);
  emulator::reset();
  const LinearPlan plan = kLoop.plan(call, tiled_device());
  CHECK(plan.outcome.status == Status::ok);
  CHECK(plan.blocks == 0);
  CHECK(kLoop.run(call, plan, tiled_device()).status == Status::ok);
  segment.weights.rows = 100;
  call.m = 0;
  CHECK(kLoop.run(call, kLoop.plan(call, tiled_device()), tiled_device()).status == Status::ok);
  CHECK(emulator::counts().launches == 0);
}

}  // namespace
}  // namespace cdna::test
