// One counter hands out the units.
#include "libcdna/matmul/team.hpp"

namespace cdna {

Result<void> Team::run(std::uint64_t units, const Task& task) {
  next_ = 0;
  failed_at_ = ~std::uint64_t{0};
  error_ = {};
  if (workers_ == nullptr || threads_ == 1 || units <= 1) {
    take_turns(units, task, 0);
  } else {
    workers_->run([&](std::size_t i) {
      if (i < threads_) take_turns(units, task, static_cast<unsigned>(i));
    });
  }
  return std::move(error_);
}

void Team::take_turns(std::uint64_t units, const Task& task, unsigned thread) {
  while (true) {
    const std::uint64_t unit = next_++;
    if (unit >= units || unit > failed_at_) return;
    Result<void> result = no_throw([&] { return task(unit, thread); });
    if (result) continue;
    const std::lock_guard lock(mutex_);
    if (unit >= failed_at_) return;
    failed_at_ = unit;
    error_ = std::move(result);
  }
}

}  // namespace cdna
