// Who does the work of a call: threads that the caller lends, or that an object owns. No call starts any of its own.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace cdna {

class ThreadPool;

// Calls body(i) once for every i in [0, count), from whatever threads it likes, and returns when all have returned.
// A body waits for nothing but what other bodies that have begun will do: they may run one after the other.
using ParallelFor = std::function<void(std::size_t count, const std::function<void(std::size_t i)>& body)>;

// Threads: one call at a time may use a Workers object.
class Workers {
 public:
  // The caller's own thread, and `threads` - 1 that live as long as this object; 0: one per core.
  // Fewer are started where the system refuses more. They stay awake for 0.1 ms behind a call, in case another follows.
  explicit Workers(unsigned threads = 1);
  // The caller's threads: no more than `concurrency` bodies are asked for at a time. Requires: concurrency > 0.
  Workers(unsigned concurrency, ParallelFor parallel_for);
  Workers(Workers&&) noexcept;
  Workers& operator=(Workers&&) noexcept;
  ~Workers();

  unsigned concurrency() const { return concurrency_; }

  // Calls body(i) for i in [0, concurrency()) and returns when all have returned. Bodies must not throw.
  void run(const std::function<void(std::size_t i)>& body);

 private:
  unsigned concurrency_ = 1;
  std::unique_ptr<ThreadPool> pool_;
  ParallelFor parallel_for_;
};

}  // namespace cdna
