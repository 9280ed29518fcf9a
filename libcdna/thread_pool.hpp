// A fixed set of threads that a writer or checker owns, for loops whose results do not depend on who runs what.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "cdna/error.hpp"

namespace cdna {

class ThreadPool {
 public:
  // `threads` includes the caller's own; 0 means one per core. Fewer are started where the system refuses more.
  explicit ThreadPool(unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  unsigned size() const { return static_cast<unsigned>(threads_.size()) + 1; }

  // Runs task(i, worker) for i in [0, count), worker in [0, size()), and waits. Returns the error with the lowest i;
  // std::bad_alloc in a task becomes Code::no_memory; other exceptions must not leave it. Not reentrant.
  using Task = std::function<Result<void>(std::size_t index, unsigned worker)>;
  Result<void> run(std::size_t count, const Task& task);

 private:
  void work(unsigned worker);
  bool wait_for_work(std::size_t seen);
  void take_turns(unsigned worker);

  std::mutex mutex_;
  std::condition_variable start_;
  std::condition_variable done_;
  std::vector<std::thread> threads_;
  const Task* task_ = nullptr;
  std::size_t count_ = 0;
  std::size_t next_ = 0;
  std::size_t active_ = 0;
  std::atomic<std::size_t> round_{0};
  std::atomic<bool> stopping_{false};
  std::size_t error_index_ = 0;
  Result<void> error_;
};

}  // namespace cdna
