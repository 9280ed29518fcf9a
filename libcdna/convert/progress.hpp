// Calls of a ProgressCallback as it is promised: from one thread, ascending, with one total.
#pragma once

#include <algorithm>
#include <cstdint>
#include <thread>

#include "cdna/convert.hpp"

namespace cdna {

class Progress {
 public:
  // The callback, which may be empty, outlives it; calls come from the thread that makes this object.
  Progress(const ProgressCallback& callback, std::uint64_t total_bytes)
      : callback_(callback), total_bytes_(total_bytes) {}

  // From any thread; those of others are not passed on.
  void show(std::uint64_t done_bytes) {
    if (!callback_ || std::this_thread::get_id() != thread_) return;
    shown_bytes_ = std::clamp(done_bytes, shown_bytes_, total_bytes_);
    callback_(shown_bytes_, total_bytes_);
  }

  // The work is done. From the thread that made this object.
  void finish() { show(total_bytes_); }

 private:
  const ProgressCallback& callback_;
  std::thread::id thread_ = std::this_thread::get_id();
  std::uint64_t shown_bytes_ = 0;
  std::uint64_t total_bytes_ = 0;
};

}  // namespace cdna
