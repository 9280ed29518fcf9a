// Work that threads take turns at.
#pragma once

#include <cstddef>
#include <functional>

namespace cdna::tools::bench {

// Runs work(i) for i in [0, count) on `threads` threads that take turns, and waits. The first exception is thrown
// again. Requires: threads > 0.
void share_out(std::size_t count, unsigned threads, const std::function<void(std::size_t)>& work);

}  // namespace cdna::tools::bench
