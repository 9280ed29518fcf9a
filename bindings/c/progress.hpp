// A caller's progress callback.
#pragma once

#include <atomic>
#include <thread>

#include "bindings/c/cdna.h"
#include "cdna/error.hpp"
#include "libcdna/try.hpp"

namespace cdna::c {

// Calls it, from one thread, and remembers that it asked to stop.
class Progress {
 public:
  Progress(cdna_progress call, void* context) : call_(call), context_(context) {}

  // Errors: cancelled.
  Result<void> tell(std::uint64_t bytes_done, std::uint64_t bytes_total) {
    if (call_ != nullptr && call_(context_, bytes_done, bytes_total) != 0) stop_ = true;
    CDNA_CHECK(!stop_, Code::cancelled, "", "stopped on request");
    return {};
  }
  // True once it asked to.
  const std::atomic<bool>& stop() const { return stop_; }

 private:
  cdna_progress call_;
  void* context_;
  std::atomic<bool> stop_{false};
};

// Sums up what any threads have done, and tells of it from the thread that made this.
class SharedProgress {
 public:
  SharedProgress(Progress& progress, std::atomic<std::uint64_t>& bytes_done)
      : progress_(progress), bytes_done_(bytes_done) {}

  // Errors: cancelled.
  Result<void> add(std::uint64_t bytes) {
    const std::uint64_t done = bytes_done_.fetch_add(bytes) + bytes;
    return std::this_thread::get_id() == thread_ ? progress_.tell(done, 0) : Result<void>();
  }

 private:
  Progress& progress_;
  std::atomic<std::uint64_t>& bytes_done_;
  std::thread::id thread_ = std::this_thread::get_id();
};

}  // namespace cdna::c
