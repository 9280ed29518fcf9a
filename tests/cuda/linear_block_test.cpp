// Tests of the block loop: its own source, on the emulated device, against float64.
#include "tiled_product.hpp"

namespace cdna::test {
namespace {

constexpr TiledLoop kLoop{cdna_cuda::plan_block, cdna_cuda::run_block};

}  // namespace
}  // namespace cdna::test

#include "tiled_cases.hpp"

namespace cdna::test {
namespace {

TEST_CASE("block: rings of two and three stages, and 256 rows a block, give the same bits") {
  TiledCase c;
  c.seed = 900;
  c.m = 5;
  c.segments = {matrix(260, 456, 8)};
  c.segments[0].row_scales = true;
  c.segments[0].outlier_part = 0.002;
  const TiledProductRun four = check_tiled(kLoop, c);
  CHECK(four.plan.blocks == 3);  // Of 128 rows: more blocks for 132 multiprocessors.
  c.device.multiprocessors = 1;
  c.device.shared_bytes_per_block_max = std::size_t{115} * 1024;
  const TiledProductRun three = check_tiled(kLoop, c);
  CHECK(three.plan.blocks == 2);
  CHECK(three.y == four.y);
  c.device.shared_bytes_per_block_max = std::size_t{99} * 1024;
  CHECK(check_tiled(kLoop, c).y == four.y);
}

}  // namespace
}  // namespace cdna::test
