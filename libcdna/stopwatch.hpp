// Adds the wall time of a scope to a counter that threads share.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace cdna {

class Stopwatch {
 public:
  explicit Stopwatch(std::atomic<std::uint64_t>& total_ns) : total_ns_(total_ns), begin_(Clock::now()) {}
  ~Stopwatch() {
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - begin_).count();
    total_ns_.fetch_add(static_cast<std::uint64_t>(ns), std::memory_order_relaxed);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  std::atomic<std::uint64_t>& total_ns_;
  Clock::time_point begin_;
};

}  // namespace cdna
