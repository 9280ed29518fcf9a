// Long work that Ctrl-C stops: on a thread of the call's own, while the calling one looks for signals.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <cstdint>
#include <functional>

namespace cdna::python {

// Runs `work` without the GIL and returns when it has. Meanwhile, on the calling thread and with the GIL, signals are
// looked at and `tick` (may be empty) is called, every 50 ms. What a signal's handler or `tick` raises sets `stop`, on
// which `work` should return soon, and is raised then. `work` calls what it gets before it does what cannot be taken
// back: that returns behind a last look, and what comes later is not looked at. Requires the GIL.
using LastLook = std::function<void()>;
void run_interruptibly(std::atomic<bool>& stop, const std::function<void(const LastLook&)>& work,
                       const std::function<void()>& tick = {});

// Figures that a working thread changes and the calling one shows.
struct ShownProgress {
  std::atomic<std::uint64_t> done{0}, all{0};

  void set(std::uint64_t done_now, std::uint64_t all_now) {
    all = all_now;
    done = done_now;
  }
  // A tick that calls `callback(done, all)`, unless it is None, where something has changed.
  std::function<void()> tick(const nanobind::object& callback) {
    return [this, callback, last = std::uint64_t{0}]() mutable {
      const std::uint64_t now = done;
      if (callback.is_none() || now == last) return;
      last = now;
      callback(now, all.load());
    };
  }
};

}  // namespace cdna::python
