// One thread works, the other waits for it in steps.
#include "interruptible.hpp"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include "gil.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

constexpr std::chrono::milliseconds kStep{50};

class Job {
 public:
  explicit Job(const std::function<void(const LastLook&)>& work) : thread_([this, &work] { run(work); }) {}
  ~Job() {
    const GilReleased released;
    thread_.join();
  }
  // Waits for at most a step: false once the work is done or wants a last look.
  bool runs() {
    const GilReleased released;
    std::unique_lock<std::mutex> lock(mutex_);
    return !changed_.wait_for(lock, kStep, [this] { return done_ || wants_look_; });
  }
  // The last look was taken. Waits for the work.
  void finish() {
    const GilReleased released;
    std::unique_lock<std::mutex> lock(mutex_);
    looked_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return done_; });
  }
  bool wants_look() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return wants_look_;
  }
  std::exception_ptr thrown() const { return thrown_; }

 private:
  void run(const std::function<void(const LastLook&)>& work) {
    try {
      work([this] { wait_for_look(); });
    } catch (...) {
      thrown_ = std::current_exception();
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    done_ = true;
    changed_.notify_all();
  }
  void wait_for_look() {
    std::unique_lock<std::mutex> lock(mutex_);
    wants_look_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return looked_; });
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  bool wants_look_ = false;
  bool looked_ = false;
  std::exception_ptr thrown_;
  std::thread thread_;
};

}  // namespace

void run_interruptibly(std::atomic<bool>& stop, const std::function<void(const LastLook&)>& work,
                       const std::function<void()>& tick) {
  std::optional<nb::python_error> raised;
  const auto look = [&] {
    if (raised) return;
    try {
      run_python([&] {
        if (PyErr_CheckSignals() != 0) throw nb::python_error();
        if (tick) tick();
      });
    } catch (nb::python_error& error) {
      raised.emplace(std::move(error));
      stop = true;
    }
  };
  {
    Job job(work);
    while (job.runs()) look();
    if (job.wants_look()) look();
    job.finish();
    if (!raised && job.thrown()) std::rethrow_exception(job.thrown());
  }
  if (raised) throw std::move(*raised);
}

}  // namespace cdna::python
