// ThreadPool: one mutex hands out indices; tasks are whole blocks, so it is never contended.
#include "libcdna/thread_pool.hpp"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <exception>

#include "libcdna/no_throw.hpp"

namespace cdna {
namespace {

constexpr std::chrono::microseconds kAwake{100};

// Threads that are started meanwhile take no signals but those that their own instructions raise: a handler of the
// program's for SIGBUS or SIGSEGV goes on working in them.
class SignalsBlocked {
 public:
  SignalsBlocked() noexcept {
    sigset_t set;
    sigfillset(&set);
    for (const int own : {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP}) sigdelset(&set, own);
    pthread_sigmask(SIG_BLOCK, &set, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

ThreadPool::ThreadPool(unsigned threads, Start start)
    : size_(threads == 0 ? std::max(1U, std::thread::hardware_concurrency()) : threads) {
  if (start == Start::when_needed) return;
  start_threads();
  size_ = static_cast<unsigned>(threads_.size()) + 1;
}

ThreadPool::~ThreadPool() { end_threads(); }

void ThreadPool::rest() {
  end_threads();
  threads_.clear();
  stopping_ = false;
}

void ThreadPool::start_threads() {
  const SignalsBlocked inherited;
  try {
    threads_.reserve(size_ - 1);
    for (unsigned worker = 1; worker < size_; ++worker)
      threads_.emplace_back([this, worker, seen = round_.load()] { work(worker, seen); });
  } catch (const std::exception&) {
    // The system has no more threads or memory to give: those that were started do the work, with the same results.
  }
}

void ThreadPool::end_threads() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  start_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

Result<void> ThreadPool::run(std::size_t count, const Task& task) {
  if (threads_.empty() && count > 1 && size_ > 1) start_threads();
  {
    const std::lock_guard lock(mutex_);
    task_ = &task;
    count_ = count;
    next_ = 0;
    error_ = {};
    error_index_ = count;
    ++round_;
  }
  start_.notify_all();
  take_turns(0);
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return active_ == 0; });
  count_ = 0;
  return std::move(error_);
}

void ThreadPool::work(unsigned worker, std::size_t seen) {
  while (wait_for_work(seen)) {
    seen = round_;
    take_turns(worker);
  }
}

// Work often comes in a row, and waking a thread that sleeps can take longer than multiplying with a small matrix: for
// a moment it only makes room for others. False: there will be no more.
bool ThreadPool::wait_for_work(std::size_t seen) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point deadline = Clock::now() + kAwake;
  while (!stopping_ && round_ == seen && Clock::now() < deadline) std::this_thread::yield();
  std::unique_lock lock(mutex_);
  start_.wait(lock, [this, seen] { return stopping_ || round_ != seen; });
  return !stopping_;
}

void ThreadPool::take_turns(unsigned worker) {
  std::unique_lock lock(mutex_);
  while (next_ < std::min(count_, error_index_)) {
    const std::size_t index = next_++;
    ++active_;
    lock.unlock();
    Result<void> result = no_throw([&] { return (*task_)(index, worker); });
    lock.lock();
    --active_;
    if (!result && index < error_index_) {
      error_index_ = index;
      error_ = std::move(result);
    }
  }
  if (active_ == 0) done_.notify_all();
}

}  // namespace cdna
