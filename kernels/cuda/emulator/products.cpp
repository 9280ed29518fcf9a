// The sums of products.h.
#include "products.h"

#include <cstring>

namespace emulator {
namespace {

using Four = float __attribute__((vector_size(16)));

Four load(const float* numbers) {
  Four four;
  std::memcpy(&four, numbers, sizeof(four));
  return four;
}

}  // namespace

void multiply(Tile& tile) {
  for (unsigned row = 0; row < 16; ++row) {
    Four low = load(tile.c[row]);
    Four high = load(tile.c[row] + 4);
    for (unsigned k = 0; k < 16; ++k) {
      low += tile.a[row][k] * load(tile.b[k]);
      high += tile.a[row][k] * load(tile.b[k] + 4);
    }
    std::memcpy(tile.c[row], &low, sizeof(low));
    std::memcpy(tile.c[row] + 4, &high, sizeof(high));
  }
}

}  // namespace emulator
