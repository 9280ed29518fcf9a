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
  enum class Start { now, when_needed };  // when_needed: by a run() of more than one task.
  // `threads` includes the caller's own; 0 means one per core. Fewer are started where the system refuses more. They
  // have the signals blocked that are meant for the process: the program's own threads get those.
  explicit ThreadPool(unsigned threads, Start start = Start::now);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Threads at most; with Start::now those that there are.
  unsigned size() const { return size_; }
  // Ends the threads. The next run() of more than one task starts them again. Requires: Start::when_needed.
  void rest();

  // Runs task(i, worker) for i in [0, count), worker in [0, size()), and waits. Returns the error with the lowest i;
  // std::bad_alloc in a task becomes Code::no_memory; other exceptions must not leave it. Not reentrant.
  using Task = std::function<Result<void>(std::size_t index, unsigned worker)>;
  Result<void> run(std::size_t count, const Task& task);

 private:
  void start_threads();
  void end_threads();
  void work(unsigned worker, std::size_t seen);
  bool wait_for_work(std::size_t seen);
  void take_turns(unsigned worker);

  unsigned size_;
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
