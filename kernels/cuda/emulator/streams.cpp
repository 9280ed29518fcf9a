// Streams, events and launches: queues of work that run when somebody waits.
#include <algorithm>
#include <random>

#include "launch.h"
#include "state.h"
#include "threads.h"

namespace emulator {
namespace {

constexpr std::uint64_t kEverything = ~std::uint64_t{0};

// Work of the legacy stream waits for what was asked of blocking streams before it, and theirs for it.
void wait_for_legacy_order(const Stream& stream, std::uint64_t sequence) {
  State& s = state();
  if (!stream.blocking) return;
  if (&stream != s.legacy.get()) {
    drain(s.legacy, sequence - 1);
    return;
  }
  const auto streams = s.streams;
  for (const auto& other : streams) {
    if (other->blocking) drain(other, sequence - 1);
  }
}

void drop_finished_streams() {
  State& s = state();
  const auto is_used = [&s](const std::shared_ptr<Stream>& stream) {
    return std::any_of(s.stream_handles.begin(), s.stream_handles.end(),
                       [&stream](const StreamHandle* handle) { return handle->stream == stream; });
  };
  const auto end = std::remove_if(s.streams.begin(), s.streams.end(), [&](const std::shared_ptr<Stream>& stream) {
    return stream->queue.empty() && !is_used(stream);
  });
  s.streams.erase(end, s.streams.end());
}

bool run_first(const std::shared_ptr<Stream>& stream, std::uint64_t last) {
  if (stream->queue.empty() || stream->queue.front().sequence > last) return false;
  const Operation operation = std::move(stream->queue.front());
  stream->queue.pop_front();
  --state().counts.queued;
  wait_for_legacy_order(*stream, operation.sequence);
  if (state().sticky == cudaSuccess) {
    const DeviceMemoryUse use;
    operation.run();
  }
  return true;
}

bool launch_fits(dim3 grid, dim3 block) {
  return grid.x != 0 && grid.y != 0 && grid.z != 0 && block.x != 0 && block.y != 0 && block.z != 0 &&
         grid.x <= 0x7FFFFFFFU && grid.y <= 65535 && grid.z <= 65535 && block.x <= 1024 && block.y <= 1024 &&
         block.z <= 64 && std::uint64_t{block.x} * block.y * block.z <= kThreadsMax;
}

void run_kernel(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& run_thread) {
  State& s = state();
  ++s.counts.launches;
  s.counts.blocks += std::uint64_t{grid.x} * grid.y * grid.z;
  const std::uint64_t seed = s.settings.seed * 0x100000001B3ULL + s.counts.launches;
  const std::string message = run_grid(grid, block, shared_bytes, seed, s.settings.poison, run_thread);
  if (!message.empty()) lose_context(message);
}

std::shared_ptr<Record> find_record(cudaEvent_t event) {
  return state().event_handles.count(event) == 0 ? nullptr : event->record;
}

void wait_for(const Record& record) {
  if (record.done) return;
  if (const auto stream = record.stream.lock()) drain(stream, record.sequence);
}

}  // namespace

std::shared_ptr<Stream> find_stream(cudaStream_t handle) {
  State& s = state();
  if (handle == nullptr) {
    s.capture_is_invalid = true;  // Of any stream: the legacy one would have to wait for it.
    return s.legacy;
  }
  if (s.stream_handles.count(handle) == 0) return nullptr;
  note_use(handle->stream->device);
  return handle->stream;
}

void enqueue(const std::shared_ptr<Stream>& stream, std::function<void()> run) {
  State& s = state();
  if (stream->captured != nullptr) {
    stream->captured->push_back(std::move(run));
    return;
  }
  stream->queue.push_back({++s.sequence, std::move(run)});
  ++s.counts.queued;
}

void drain(const std::shared_ptr<Stream>& stream, std::uint64_t last) {
  while (run_first(stream, last)) {
  }
}

void drain_all() {
  State& s = state();
  auto streams = s.streams;
  streams.push_back(s.legacy);
  std::shuffle(streams.begin(), streams.end(), std::mt19937_64(s.settings.seed + s.sequence));
  for (const auto& stream : streams) drain(stream, kEverything);
  drop_finished_streams();
}

cudaError_t launch(const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
                   std::function<void()> run_thread) {
  const Call call("launch");
  if (call.error() != cudaSuccess) return call(call.error());
  State& s = state();
  const auto queue = find_stream(stream);
  if (queue == nullptr || (stream != nullptr && queue->device != current_device()))
    return call(cudaErrorInvalidResourceHandle);
  if (!launch_fits(grid, block)) return call(cudaErrorInvalidConfiguration);
  const auto opt_in = s.shared_opt_in.find(kernel);
  const std::size_t allowed =
      std::max(s.settings.shared_bytes_per_block, opt_in == s.shared_opt_in.end() ? 0 : opt_in->second);
  if (shared_bytes > allowed) return call(cudaErrorInvalidValue);
  enqueue(queue, [=, run = std::move(run_thread)] { run_kernel(grid, block, shared_bytes, run); });
  return call(cudaSuccess);
}

}  // namespace emulator

using namespace emulator;

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const Call call("cudaStreamCreateWithFlags");
  if (call.error() != cudaSuccess) return call(call.error());
  if (stream == nullptr || flags > cudaStreamNonBlocking) return call(cudaErrorInvalidValue);
  State& s = state();
  auto created = std::make_shared<Stream>();
  created->device = current_device();
  created->blocking = flags == cudaStreamDefault;
  s.streams.push_back(created);
  *stream = new StreamHandle{std::move(created)};
  s.stream_handles.insert(*stream);
  return call(cudaSuccess);
}

// The work that is queued will run nevertheless.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Call call("cudaStreamDestroy");
  if (state().stream_handles.erase(stream) == 0) return call(cudaErrorInvalidResourceHandle);
  note_use(stream->stream->device);
  delete stream;
  drop_finished_streams();
  return call(call.error());
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Call call("cudaStreamSynchronize", Call::Capture::refused);
  if (call.error() != cudaSuccess) return call(call.error());
  const auto queue = find_stream(stream);
  if (queue == nullptr) return call(cudaErrorInvalidResourceHandle);
  drain(queue, kEverything);
  if (queue == state().legacy) wait_for_legacy_order(*queue, kEverything);
  return call(state().sticky);
}

// Work goes on a step with each question, so that who asks again and again is answered some time.
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const Call call("cudaStreamQuery", Call::Capture::refused);
  if (call.error() != cudaSuccess) return call(call.error());
  const auto queue = find_stream(stream);
  if (queue == nullptr) return call(cudaErrorInvalidResourceHandle);
  const bool done = queue->queue.empty();
  if (!done) run_first(queue, kEverything);
  return call(state().sticky != cudaSuccess ? state().sticky : done ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  const Call call("cudaStreamWaitEvent", Call::Capture::refused);
  if (call.error() != cudaSuccess) return call(call.error());
  const auto queue = find_stream(stream);
  if (queue == nullptr || state().event_handles.count(event) == 0) return call(cudaErrorInvalidResourceHandle);
  if (flags != 0) return call(cudaErrorInvalidValue);
  if (const auto record = find_record(event)) {
    enqueue(queue, [record] { wait_for(*record); });
  }
  return call(cudaSuccess);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  const Call call("cudaLaunchHostFunc");
  if (call.error() != cudaSuccess) return call(call.error());
  const auto queue = find_stream(stream);
  if (queue == nullptr) return call(cudaErrorInvalidResourceHandle);
  if (function == nullptr) return call(cudaErrorInvalidValue);
  enqueue(queue, [function, data] { function(data); });
  return call(cudaSuccess);
}

cudaError_t cudaDeviceSynchronize() {
  const Call call("cudaDeviceSynchronize", Call::Capture::refused);
  if (call.error() != cudaSuccess) return call(call.error());
  drain_all();
  return call(state().sticky);
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  const Call call("cudaEventCreateWithFlags");
  if (call.error() != cudaSuccess) return call(call.error());
  if (event == nullptr) return call(cudaErrorInvalidValue);
  *event = new EventHandle;
  (*event)->device = current_device();
  (*event)->times = (flags & cudaEventDisableTiming) == 0;
  state().event_handles.insert(*event);
  return call(cudaSuccess);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Call call("cudaEventDestroy");
  if (state().event_handles.erase(event) == 0) return call(cudaErrorInvalidResourceHandle);
  note_use(event->device);
  delete event;
  return call(call.error());
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Call call("cudaEventRecord", Call::Capture::refused);
  if (call.error() != cudaSuccess) return call(call.error());
  const auto queue = find_stream(stream);
  if (queue == nullptr || state().event_handles.count(event) == 0) return call(cudaErrorInvalidResourceHandle);
  note_use(event->device);
  auto record = std::make_shared<Record>();
  event->record = record;
  record->stream = queue;
  enqueue(queue, [record] {
    record->done = true;
    record->time = std::chrono::steady_clock::now();
  });
  record->sequence = state().sequence;
  return call(cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Call call("cudaEventQuery", Call::Capture::refused);
  if (call.error() != cudaSuccess) return call(call.error());
  if (state().event_handles.count(event) == 0) return call(cudaErrorInvalidResourceHandle);
  const auto record = event->record;
  if (record == nullptr || record->done) return call(cudaSuccess);
  if (const auto queue = record->stream.lock()) run_first(queue, record->sequence);
  return call(state().sticky != cudaSuccess ? state().sticky : cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Call call("cudaEventSynchronize", Call::Capture::refused);
  if (call.error() != cudaSuccess) return call(call.error());
  if (state().event_handles.count(event) == 0) return call(cudaErrorInvalidResourceHandle);
  if (const auto record = event->record) wait_for(*record);
  return call(state().sticky);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  const Call call("cudaEventElapsedTime");
  if (call.error() != cudaSuccess) return call(call.error());
  const auto first = find_record(begin);
  const auto second = find_record(end);
  if (milliseconds == nullptr) return call(cudaErrorInvalidValue);
  if (first == nullptr || second == nullptr || !begin->times || !end->times)
    return call(cudaErrorInvalidResourceHandle);
  if (!first->done || !second->done) return call(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(second->time - first->time).count();
  return call(cudaSuccess);
}
