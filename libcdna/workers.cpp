// Workers: a ThreadPool of our own, or the caller's loop.
#include "cdna/workers.hpp"

#include <utility>

#include "libcdna/thread_pool.hpp"

namespace cdna {

Workers::Workers(unsigned threads) : pool_(std::make_unique<ThreadPool>(threads)) { concurrency_ = pool_->size(); }

Workers::Workers(unsigned concurrency, ParallelFor parallel_for)
    : concurrency_(concurrency), parallel_for_(std::move(parallel_for)) {}

Workers::Workers(Workers&&) noexcept = default;
Workers& Workers::operator=(Workers&&) noexcept = default;
Workers::~Workers() = default;

void Workers::run(const std::function<void(std::size_t i)>& body) {
  if (parallel_for_) return parallel_for_(concurrency_, body);
  (void)pool_->run(concurrency_, [&](std::size_t i, unsigned) -> Result<void> {
    body(i);
    return {};
  });
}

}  // namespace cdna
