// What is behind a cdna_workers, and its use by one call.
#pragma once

#include <atomic>
#include <memory>
#include <optional>

#include "bindings/c/boundary.hpp"
#include "cdna/workers.hpp"

namespace cdna::c {

inline constexpr std::uint32_t kThreadsMax = 1024;

// A number of threads as the library counts them: at least 1. Errors: limit (over kThreadsMax).
Result<unsigned> take_threads(std::uint32_t threads, const char* name);

// A parallel_for of the caller's, which is not trusted to call every body once.
class CallersLoop {
 public:
  CallersLoop(std::uint32_t concurrency, cdna_parallel_for parallel_for, void* context)
      : concurrency_(concurrency),
        parallel_for_(parallel_for),
        context_(context),
        begun_(std::make_unique<std::atomic<bool>[]>(concurrency)) {}

  void run(const std::function<void(std::size_t i)>& body);
  // Whether a body was left out, or asked for twice or beyond the last, since this was asked before.
  bool take_fault() { return fault_.exchange(false); }

 private:
  friend struct Turn;
  std::uint32_t concurrency_;
  cdna_parallel_for parallel_for_;
  void* context_;
  std::unique_ptr<std::atomic<bool>[]> begun_;
  std::atomic<bool> fault_{false};
};

}  // namespace cdna::c

struct cdna_workers {
  std::unique_ptr<cdna::c::CallersLoop> callers_loop;  // Or null: threads of our own.
  std::optional<cdna::Workers> workers;
  std::atomic<bool> busy{false};
};

namespace cdna::c {

// The use of workers, which may be null, by one call.
class WorkersInUse {
 public:
  explicit WorkersInUse(cdna_workers* workers) : workers_(workers) {
    free_ = workers == nullptr || !workers->busy.exchange(true);
  }
  ~WorkersInUse() {
    if (workers_ != nullptr && free_) workers_->busy = false;
  }
  WorkersInUse(const WorkersInUse&) = delete;
  WorkersInUse& operator=(const WorkersInUse&) = delete;

  // Errors: bad_argument (another call uses them).
  Result<void> begin() const;
  Workers* get() const { return workers_ == nullptr ? nullptr : &*workers_->workers; }
  // Errors: bad_argument (the caller's loop did not do what it was asked).
  Result<void> end() const;

 private:
  cdna_workers* workers_;
  bool free_;
};

}  // namespace cdna::c
