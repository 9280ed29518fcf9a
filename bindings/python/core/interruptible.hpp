// Long work that Ctrl-C stops: on a thread of the call's own, while the calling one looks for signals.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <functional>

namespace cdna::python {

// Runs `work` without the GIL and returns when it has. Meanwhile, on the calling thread and with the GIL, signals are
// looked at and `tick` (may be empty) is called, every 50 ms and once behind the work. What a signal's handler or
// `tick` raises sets `stop`, on which `work` should return soon, and is raised then. Requires the GIL.
void run_interruptibly(std::atomic<bool>& stop, const std::function<void()>& work,
                       const std::function<void()>& tick = {});

}  // namespace cdna::python
