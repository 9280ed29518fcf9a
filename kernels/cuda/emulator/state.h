// What the emulated runtime knows: memory, streams, events, counts. One lock for all of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "emulator.h"

namespace emulator {

struct Stream;

// A place in a stream that events and waits refer to.
struct Record {
  std::weak_ptr<Stream> stream;
  std::uint64_t sequence = 0;
  bool done = false;
  std::chrono::steady_clock::time_point time;
};

struct Operation {
  std::uint64_t sequence;  // In the order of calls, over all streams.
  std::function<void()> run;
};

using GraphWork = std::vector<std::function<void()>>;

struct Stream {
  int device = 0;
  bool blocking = true;  // Waits for the legacy stream, and it for this one.
  std::deque<Operation> queue;
  std::shared_ptr<GraphWork> captured;  // Null: its work is not captured.
};

struct StreamHandle {
  std::shared_ptr<Stream> stream;
};

struct EventHandle {
  std::shared_ptr<Record> record;  // The last one; null: never recorded, complete.
  bool times = true;
  int device = 0;
};

struct GraphHandle {
  std::shared_ptr<const GraphWork> work;
};

enum class Place { device, pinned };

struct Allocation {
  std::size_t bytes;
  Place place;
  int device;
};

struct State {
  std::recursive_mutex mutex;
  Settings settings;
  Counts counts;
  std::string failure;
  cudaError_t sticky = cudaSuccess;
  std::map<std::uintptr_t, Allocation> allocations;
  std::set<StreamHandle*> stream_handles;
  std::set<EventHandle*> event_handles;
  std::set<GraphHandle*> graphs;
  unsigned device_memory_uses = 0;
  unsigned captures = 0;  // Under way.
  bool capture_is_invalid = false;
  std::map<const void*, std::size_t> shared_opt_in;  // By kernel.
  std::shared_ptr<Stream> legacy = std::make_shared<Stream>();
  std::vector<std::shared_ptr<Stream>> streams;  // Those destroyed too, until their work has run.
  std::uint64_t sequence = 0;
  std::uint64_t fail_at = 0;  // In Counts::calls; 0: never.
  bool fail_all_after = false;
  cudaError_t fail_with = cudaSuccess;
  std::string failed_call;
};
State& state();

// One call of the runtime: holds the lock, counts, and says how it fails before it begins.
class Call {
 public:
  enum class Capture { allowed, refused };
  // `capture`: whether the call may be made while a stream is captured; if not, it spoils what is captured.
  explicit Call(const char* name, Capture capture = Capture::allowed);
  cudaError_t error() const { return error_; }
  // What the call returns.
  cudaError_t operator()(cudaError_t result) const;

 private:
  std::lock_guard<std::recursive_mutex> lock_;
  cudaError_t error_ = cudaSuccess;
};

// The calling thread's. note_use(): counts what is of another.
int current_device();
void note_use(int device);

// The context is lost, as after a fault in a kernel.
void lose_context(const std::string& message);

// Null for a handle that is none; the legacy stream for null.
std::shared_ptr<Stream> find_stream(cudaStream_t handle);
void enqueue(const std::shared_ptr<Stream>& stream, std::function<void()> run);
// Runs the stream's work up to that call.
void drain(const std::shared_ptr<Stream>& stream, std::uint64_t last);
void drain_all();

// The allocation that holds [pointer, pointer + bytes), or null.
const Allocation* find_allocation(const void* pointer, std::size_t bytes);
void forget_allocations();

// While one lives, device memory may be used; AddressSanitizer takes other uses for errors.
class DeviceMemoryUse {
 public:
  DeviceMemoryUse();
  ~DeviceMemoryUse();
  DeviceMemoryUse(const DeviceMemoryUse&) = delete;
  DeviceMemoryUse& operator=(const DeviceMemoryUse&) = delete;
};

}  // namespace emulator
