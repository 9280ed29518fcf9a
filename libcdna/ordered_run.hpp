// Work that is done in parallel and taken in order, with a bounded number of results in between.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "cdna/error.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/thread_pool.hpp"

namespace cdna {

// Calls make(i, worker) for i in [0, count) from the pool's threads, and take(i, item) for each result in the order of
// i, from one thread at a time (whichever has made the item that was missing), while the others go on making. At most
// 2 * threads results wait. Returns the error with the lowest i, whatever the threads do; the items before it have been
// taken, none after it. std::bad_alloc becomes Code::no_memory. To be run once.
template <class Item>
class OrderedRun {
 public:
  using Make = std::function<Result<Item>(std::size_t i, unsigned worker)>;
  using Take = std::function<Result<void>(std::size_t i, Item& item)>;

  OrderedRun(ThreadPool& pool, Make make, Take take)
      : pool_(pool), make_(std::move(make)), take_(std::move(take)), slots_(2 * std::size_t{pool.size()}) {}

  Result<void> run(std::size_t count) {
    failed_at_ = count;
    const Result<void> ran =
        pool_.run(count, [this](std::size_t i, unsigned worker) { return make_and_take(i, worker); });
    return failed_at_ < count ? Result<void>(std::move(error_)) : ran;
  }

 private:
  Result<void> make_and_take(std::size_t i, unsigned worker) {
    if (!wait_for_slot(i)) return {};
    auto item = no_throw([&] { return make_(i, worker); });
    std::unique_lock lock(mutex_);
    if (!item) return give_up(i, std::move(item).error());
    slots_[i % slots_.size()] = *std::move(item);
    if (taking_) return {};  // Whoever takes now will find it.
    taking_ = true;
    Result<void> taken = take_ready(lock);
    taking_ = false;
    return taken;
  }

  // False once something before item `i` has failed.
  bool wait_for_slot(std::size_t i) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return failed_at_ <= i || i < next_ + slots_.size(); });
    return i < failed_at_;
  }

  // Requires: the lock is held; it is released while an item is taken.
  Result<void> take_ready(std::unique_lock<std::mutex>& lock) {
    while (next_ < failed_at_ && slots_[next_ % slots_.size()]) {
      std::optional<Item> item = std::exchange(slots_[next_ % slots_.size()], std::nullopt);
      lock.unlock();
      Result<void> taken = no_throw([&] { return take_(next_, *item); });
      item.reset();
      lock.lock();
      if (!taken) return give_up(next_, std::move(taken).error());
      ++next_;
      changed_.notify_all();
    }
    return {};
  }

  // Keeps the error if it is the first. What is returned only makes the pool stop: items before `i`, which all have
  // been begun, may still fail. Requires: the lock is held.
  Error give_up(std::size_t i, Error error) {
    if (i < failed_at_) {
      failed_at_ = i;
      error_ = std::move(error);
    }
    changed_.notify_all();
    Error stop;
    stop.code = Code::cancelled;
    return stop;
  }

  ThreadPool& pool_;
  Make make_;
  Take take_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::optional<Item>> slots_;
  std::size_t next_ = 0;  // The item to be taken.
  bool taking_ = false;
  std::size_t failed_at_ = 0;  // The first item that could not be made or taken; else their count.
  Error error_;
};

}  // namespace cdna
