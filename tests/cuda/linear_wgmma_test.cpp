// Tests of the wgmma loop: its own source, on the emulated device, against float64.
#include "tiled_product.hpp"

namespace cdna::test {
namespace {

constexpr TiledLoop kLoop{cdna_cuda::plan_wgmma, cdna_cuda::run_wgmma};

}  // namespace
}  // namespace cdna::test

#include "tiled_cases.hpp"

namespace cdna::test {
namespace {

TEST_CASE("wgmma: is for compute capability 9.0 only") {
  Segment segment;
  segment.weights.rows = 1000;
  segment.weights.cols = 512;
  segment.weights.bits = 8;
  const LinearCall call = call_of(segment);
  Device device = tiled_device();
  for (const int major : {8, 10, 12}) {
    device.major = major;
    CHECK(kLoop.plan(call, device).outcome.status == Status::unsupported);
  }
}

}  // namespace
}  // namespace cdna::test
