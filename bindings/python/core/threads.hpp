// How many threads a call works with.
#pragma once

#include <algorithm>
#include <cstdint>
#include <thread>

namespace cdna::python {

// `wanted`, of which 0 means one per core, but no more than can be of use: a slip in a number starts no 30000 threads.
inline unsigned thread_count(std::uint64_t wanted) {
  const unsigned cores = std::max(std::thread::hardware_concurrency(), 1U);
  const std::uint64_t most = std::max(4 * cores, 64U);
  return wanted == 0 ? cores : static_cast<unsigned>(std::min(wanted, most));
}

}  // namespace cdna::python
