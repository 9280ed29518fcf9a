// Threads that the library owns or the caller lends.
#include "bindings/c/workers.hpp"

#include <algorithm>
#include <thread>

namespace cdna::c {

struct Turn {
  CallersLoop* loop;
  const std::function<void(std::size_t i)>* body;

  static void take(void* turn, std::uint64_t i) noexcept {
    const Turn& self = *static_cast<Turn*>(turn);
    if (i >= self.loop->concurrency_ || self.loop->begun_[i].exchange(true)) {
      self.loop->fault_ = true;
    } else {
      (*self.body)(i);
    }
  }
};

void CallersLoop::run(const std::function<void(std::size_t i)>& body) {
  for (std::uint32_t i = 0; i < concurrency_; ++i) begun_[i] = false;
  Turn turn{this, &body};
  parallel_for_(context_, concurrency_, Turn::take, &turn);
  for (std::uint32_t i = 0; i < concurrency_; ++i) {
    if (!begun_[i]) fault_ = true;
  }
}

Result<unsigned> take_threads(std::uint32_t threads, const char* name) {
  if (threads == CDNA_ALL_CORES) return std::clamp(std::thread::hardware_concurrency(), 1U, kThreadsMax);
  CDNA_CHECK(threads <= kThreadsMax, Code::limit, "",
             std::string(name) + " is " + std::to_string(threads) + ", over " + std::to_string(kThreadsMax));
  return std::max(1U, threads);
}

Result<void> WorkersInUse::begin() const {
  if (!free_) return bad_argument("workers are in use by another call");
  if (workers_ != nullptr && workers_->callers_loop) (void)workers_->callers_loop->take_fault();  // Of a call before.
  return {};
}

Result<void> WorkersInUse::end() const {
  if (workers_ != nullptr && workers_->callers_loop && workers_->callers_loop->take_fault())
    return bad_argument("the parallel_for of workers did not call every body once");
  return {};
}

namespace {

Result<void> create(std::uint32_t threads, cdna_workers** ret_workers) {
  CDNA_TRY(need(ret_workers, "ret_workers"));
  const unsigned count = CDNA_TRY(take_threads(threads, "threads"));
  auto workers = std::make_unique<cdna_workers>();
  workers->workers.emplace(count);
  *ret_workers = workers.release();
  return {};
}

Result<void> create_with(std::uint32_t concurrency, cdna_parallel_for parallel_for, void* context,
                         cdna_workers** ret_workers) {
  CDNA_TRY(need(ret_workers, "ret_workers"));
  if (parallel_for == nullptr) return bad_argument("parallel_for is NULL");
  if (concurrency == 0) return bad_argument("concurrency is 0");
  if (concurrency == CDNA_ALL_CORES) return bad_argument("concurrency is CDNA_ALL_CORES: the threads are the caller's");
  CDNA_TRY(take_threads(concurrency, "concurrency"));
  auto workers = std::make_unique<cdna_workers>();
  workers->callers_loop = std::make_unique<CallersLoop>(concurrency, parallel_for, context);
  CallersLoop* const loop = workers->callers_loop.get();
  workers->workers.emplace(concurrency,
                           [loop](std::size_t, const std::function<void(std::size_t i)>& body) { loop->run(body); });
  *ret_workers = workers.release();
  return {};
}

}  // namespace
}  // namespace cdna::c

extern "C" {

cdna_code cdna_workers_create(uint32_t threads, cdna_workers** ret_workers, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::create(threads, ret_workers); });
}

cdna_code cdna_workers_create_with(uint32_t concurrency, cdna_parallel_for parallel_for, void* context,
                                   cdna_workers** ret_workers, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::create_with(concurrency, parallel_for, context, ret_workers); });
}

uint32_t cdna_workers_concurrency(const cdna_workers* workers) {
  return workers == nullptr ? 0 : workers->workers->concurrency();
}

void cdna_workers_free(cdna_workers* workers) { cdna::c::free_handle(workers); }

}  // extern "C"
