// Units of work shared out to the threads of a call.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>

#include "cdna/error.hpp"
#include "cdna/workers.hpp"
#include "libcdna/no_throw.hpp"

namespace cdna {

class Team {
 public:
  // At most `threads` of the workers take part; without any the caller alone does.
  Team(Workers* workers, unsigned threads) : workers_(workers), threads_(workers == nullptr ? 1 : threads) {}

  using Task = std::function<Result<void>(std::uint64_t unit, unsigned thread)>;
  // Calls task(unit, thread) for the units in turn, each from one thread, thread < threads; one thread number is in
  // use by one thread at a time. Returns the error of the lowest unit that has one; no unit above it is begun after it.
  Result<void> run(std::uint64_t units, const Task& task);

 private:
  void take_turns(std::uint64_t units, const Task& task, unsigned thread);

  Workers* workers_;
  unsigned threads_;
  std::atomic<std::uint64_t> next_{0};
  std::atomic<std::uint64_t> failed_at_{~std::uint64_t{0}};
  std::mutex mutex_;
  Result<void> error_;
};

}  // namespace cdna
