// Device and pinned memory, and copies.
#include <cstdlib>
#include <cstring>

#include "sanitizer.h"
#include "state.h"

namespace emulator {
namespace {

#ifdef CDNA_EMULATOR_ASAN
void hide(void* pointer, std::size_t bytes) {
  if (state().settings.hides_device_memory) __asan_poison_memory_region(pointer, bytes);
}
void show(void* pointer, std::size_t bytes) { __asan_unpoison_memory_region(pointer, bytes); }
#else
void hide(void*, std::size_t) {}
void show(void*, std::size_t) {}
#endif

template <class Function>
void for_each_device_allocation(const Function& function) {
  for (const auto& [address, allocation] : state().allocations) {
    if (allocation.place == Place::device) function(reinterpret_cast<void*>(address), allocation.bytes);
  }
}

constexpr std::size_t kAlignment = 256;

std::size_t& bytes_of(Place place) {
  Counts& c = state().counts;
  return place == Place::device ? c.device_bytes : c.pinned_bytes;
}

std::size_t& allocations_of(Place place) {
  Counts& c = state().counts;
  return place == Place::device ? c.device_allocations : c.pinned_allocations;
}

cudaError_t allocate(void** pointer, std::size_t bytes, Place place) {
  State& s = state();
  if (pointer == nullptr) return cudaErrorInvalidValue;
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (place == Place::device &&
      bytes > s.settings.memory_bytes - std::min(s.counts.device_bytes, s.settings.memory_bytes))
    return cudaErrorMemoryAllocation;
  if (posix_memalign(pointer, kAlignment, bytes) != 0) return cudaErrorMemoryAllocation;
  std::memset(*pointer, s.settings.poison, bytes);
  if (place == Place::device && s.device_memory_uses == 0) hide(*pointer, bytes);
  s.allocations[reinterpret_cast<std::uintptr_t>(*pointer)] = {bytes, place, current_device()};
  ++allocations_of(place);
  bytes_of(place) += bytes;
  s.counts.device_bytes_peak = std::max(s.counts.device_bytes_peak, s.counts.device_bytes);
  s.counts.pinned_bytes_peak = std::max(s.counts.pinned_bytes_peak, s.counts.pinned_bytes);
  return cudaSuccess;
}

cudaError_t release(void* pointer, Place place) {
  State& s = state();
  const auto found = s.allocations.find(reinterpret_cast<std::uintptr_t>(pointer));
  if (found == s.allocations.end() || found->second.place != place) return cudaErrorInvalidValue;
  note_use(found->second.device);
  --allocations_of(place);
  bytes_of(place) -= found->second.bytes;
  show(pointer, found->second.bytes);
  s.allocations.erase(found);
  std::free(pointer);
  return cudaSuccess;
}

bool is_at(const void* pointer, std::size_t bytes, Place place) {
  const Allocation* const allocation = find_allocation(pointer, bytes);
  return allocation != nullptr && allocation->place == place;
}

// Whether an allocation, of any place, begins before and ends behind `pointer`.
bool is_known(const void* pointer) { return find_allocation(pointer, 0) != nullptr; }

// What the sides of a copy have to be: device memory, or memory of the host that is not device memory.
bool sides_fit(const void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const auto fits = [bytes](const void* pointer, bool device) {
    if (device) return is_at(pointer, bytes, Place::device);
    return !is_known(pointer) || is_at(pointer, bytes, Place::pinned);
  };
  return fits(to, to_device) && fits(from, from_device);
}

cudaMemcpyKind resolve(const void* to, const void* from, cudaMemcpyKind kind) {
  if (kind != cudaMemcpyDefault) return kind;
  const bool to_device = is_at(to, 0, Place::device);
  const bool from_device = is_at(from, 0, Place::device);
  if (to_device) return from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice;
  return from_device ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost;
}

// False, and the context is lost, if memory that work is about to use has been freed since it was asked for.
bool is_there_still(const void* pointer, std::size_t bytes) {
  if (find_allocation(pointer, bytes) != nullptr) return true;
  lose_context("work on " + std::to_string(bytes) + " bytes ran after its memory had been freed");
  return false;
}

// Copies from pageable memory are staged before the call returns; copies to it have run by then.
cudaError_t copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind asked_kind,
                 const std::shared_ptr<Stream>& stream) {
  if (bytes == 0) return cudaSuccess;
  if (asked_kind < cudaMemcpyHostToHost || asked_kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  if (!sides_fit(to, from, bytes, resolve(to, from, asked_kind))) return cudaErrorInvalidValue;
  const bool to_pageable = !is_known(to);
  if (is_known(from)) {
    enqueue(stream, [=] {
      if (is_there_still(from, bytes) && (to_pageable || is_there_still(to, bytes))) std::memcpy(to, from, bytes);
    });
  } else {
    const auto* const begin = static_cast<const unsigned char*>(from);
    enqueue(stream, [=, staged = std::vector<unsigned char>(begin, begin + bytes)] {
      if (to_pageable || is_there_still(to, bytes)) std::memcpy(to, staged.data(), bytes);
    });
  }
  if (to_pageable) drain(stream, state().sequence);
  return state().sticky;
}

cudaError_t set(void* pointer, int value, std::size_t bytes, const std::shared_ptr<Stream>& stream) {
  if (bytes == 0) return cudaSuccess;
  if (!is_at(pointer, bytes, Place::device)) return cudaErrorInvalidValue;
  enqueue(stream, [=] {
    if (is_there_still(pointer, bytes)) std::memset(pointer, value, bytes);
  });
  return cudaSuccess;
}

}  // namespace

const Allocation* find_allocation(const void* pointer, std::size_t bytes) {
  const State& s = state();
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  auto next = s.allocations.upper_bound(address);
  if (next == s.allocations.begin()) return nullptr;
  --next;
  const std::size_t offset = address - next->first;
  if (offset >= next->second.bytes || bytes > next->second.bytes - offset) return nullptr;
  return &next->second;
}

void forget_allocations() {
  State& s = state();
  for (const auto& [address, allocation] : s.allocations) {
    show(reinterpret_cast<void*>(address), allocation.bytes);
    std::free(reinterpret_cast<void*>(address));
  }
  s.allocations.clear();
}

DeviceMemoryUse::DeviceMemoryUse() {
  if (state().device_memory_uses++ == 0) for_each_device_allocation(show);
}
DeviceMemoryUse::~DeviceMemoryUse() {
  if (--state().device_memory_uses == 0) for_each_device_allocation(hide);
}

}  // namespace emulator

using namespace emulator;

cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) {
  const Call call("cudaMemGetInfo");
  if (call.error() != cudaSuccess) return call(call.error());
  const State& s = state();
  *total_bytes = s.settings.memory_bytes;
  *free_bytes = s.settings.memory_bytes - std::min(s.counts.device_bytes, s.settings.memory_bytes);
  return call(cudaSuccess);
}

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  const Call call("cudaMalloc", Call::Capture::refused);
  return call(call.error() != cudaSuccess ? call.error() : allocate(pointer, bytes, Place::device));
}

// Waits for the whole device, as the driver does.
cudaError_t cudaFree(void* pointer) {
  const Call call("cudaFree", Call::Capture::refused);
  drain_all();
  if (pointer == nullptr) return call(call.error());
  const cudaError_t error = release(pointer, Place::device);
  return call(call.error() != cudaSuccess ? call.error() : error);
}

cudaError_t cudaMallocAsync(void** pointer, std::size_t bytes, cudaStream_t stream) {
  const Call call("cudaMallocAsync", Call::Capture::refused);
  if (call.error() != cudaSuccess) return call(call.error());
  if (find_stream(stream) == nullptr) return call(cudaErrorInvalidResourceHandle);
  return call(allocate(pointer, bytes, Place::device));
}

// The memory goes when the stream gets there.
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  const Call call("cudaFreeAsync");
  const auto queue = find_stream(stream);
  if (queue == nullptr) return call(cudaErrorInvalidResourceHandle);
  if (pointer == nullptr) return call(call.error());
  if (!is_at(pointer, 0, Place::device)) return call(cudaErrorInvalidValue);
  enqueue(queue, [pointer] { release(pointer, Place::device); });
  return call(call.error());
}

cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) {
  const Call call("cudaMallocHost", Call::Capture::refused);
  return call(call.error() != cudaSuccess ? call.error() : allocate(pointer, bytes, Place::pinned));
}

cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned) {
  const Call call("cudaHostAlloc", Call::Capture::refused);
  return call(call.error() != cudaSuccess ? call.error() : allocate(pointer, bytes, Place::pinned));
}

// Does not wait: nothing promises it. A copy that comes later is told.
cudaError_t cudaFreeHost(void* pointer) {
  const Call call("cudaFreeHost", Call::Capture::refused);
  if (pointer == nullptr) return call(call.error());
  const cudaError_t error = release(pointer, Place::pinned);
  return call(call.error() != cudaSuccess ? call.error() : error);
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const Call call("cudaMemcpy", Call::Capture::refused);
  if (call.error() != cudaSuccess) return call(call.error());
  const auto legacy = state().legacy;
  const cudaError_t error = copy(to, from, bytes, kind, legacy);
  drain(legacy, state().sequence);
  return call(error != cudaSuccess ? error : state().sticky);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const Call call("cudaMemcpyAsync");
  if (call.error() != cudaSuccess) return call(call.error());
  const auto queue = find_stream(stream);
  return call(queue == nullptr ? cudaErrorInvalidResourceHandle : copy(to, from, bytes, kind, queue));
}

cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  const Call call("cudaMemcpy2DAsync");
  if (call.error() != cudaSuccess) return call(call.error());
  const auto queue = find_stream(stream);
  if (queue == nullptr) return call(cudaErrorInvalidResourceHandle);
  if (width > to_pitch || width > from_pitch) return call(cudaErrorInvalidValue);
  for (std::size_t i = 0; i < height; ++i) {
    const cudaError_t error = copy(static_cast<char*>(to) + i * to_pitch,
                                   static_cast<const char*>(from) + i * from_pitch, width, kind, queue);
    if (error != cudaSuccess) return call(error);
  }
  return call(cudaSuccess);
}

cudaError_t cudaMemset(void* pointer, int value, std::size_t bytes) {
  const Call call("cudaMemset", Call::Capture::refused);
  return call(call.error() != cudaSuccess ? call.error() : set(pointer, value, bytes, state().legacy));
}

cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t bytes, cudaStream_t stream) {
  const Call call("cudaMemsetAsync");
  if (call.error() != cudaSuccess) return call(call.error());
  const auto queue = find_stream(stream);
  return call(queue == nullptr ? cudaErrorInvalidResourceHandle : set(pointer, value, bytes, queue));
}
