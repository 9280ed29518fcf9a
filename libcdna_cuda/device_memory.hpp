// What a call holds of a device, given back at the end of its life: memory, pinned memory, streams, events.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "libcdna_cuda/failure.hpp"

namespace cdna::cuda {

// The error of one call of our own, not to be found by somebody else's next look; one that was pending before stays.
inline void forget(cudaError_t error) {
  if (error != cudaSuccess) (void)cudaGetLastError();
}

// Makes a device the calling thread's current one. That initialises it: where it is current already, nothing is done.
inline cudaError_t set_current(int ordinal) {
  int current = 0;
  const cudaError_t error = cudaGetDevice(&current);
  return error == cudaSuccess && current != ordinal ? cudaSetDevice(ordinal) : error;
}

// A handle of CUDA's that `release` gives back. Errors of that are not told: there is nothing to be done about them.
template <class Handle, cudaError_t (*release)(Handle)>
class Owned {
 public:
  Owned() = default;
  explicit Owned(Handle handle) : handle_(handle) {}
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, Handle{})) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owned() {
    if (handle_ == Handle{}) return;
    forget(release(handle_));
  }
  Handle get() const { return handle_; }

 private:
  Handle handle_{};
};

using DeviceMemory = Owned<void*, cudaFree>;
using PinnedMemory = Owned<void*, cudaFreeHost>;
using Stream = Owned<cudaStream_t, cudaStreamDestroy>;
using Event = Owned<cudaEvent_t, cudaEventDestroy>;

// Of 0 bytes: none.
inline Result<DeviceMemory> allocate_device(std::uint64_t bytes) {
  void* pointer = nullptr;
  if (bytes == 0) return DeviceMemory();
  const cudaError_t error = cudaMalloc(&pointer, bytes);
  if (error == cudaSuccess) return DeviceMemory(pointer);
  (void)cudaGetLastError();
  return device_failure(error, "allocating " + std::to_string(bytes) + " bytes on the device");
}

inline Result<PinnedMemory> allocate_pinned(std::uint64_t bytes) {
  void* pointer = nullptr;
  const cudaError_t error = cudaMallocHost(&pointer, bytes);
  if (error == cudaSuccess) return PinnedMemory(pointer);
  (void)cudaGetLastError();
  return device_failure(error, "allocating " + std::to_string(bytes) + " bytes of pinned memory");
}

// One that does not wait for the default stream.
inline Result<Stream> create_stream() {
  cudaStream_t stream = nullptr;
  const cudaError_t error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  if (error == cudaSuccess) return Stream(stream);
  (void)cudaGetLastError();
  return device_failure(error, "creating a stream");
}

// One that measures time, and is waited for without burning a core.
inline Result<Event> create_event() {
  cudaEvent_t event = nullptr;
  const cudaError_t error = cudaEventCreateWithFlags(&event, cudaEventBlockingSync);
  if (error == cudaSuccess) return Event(event);
  (void)cudaGetLastError();
  return device_failure(error, "creating an event");
}

// Makes a device the calling thread's current one, as long as this lives.
class CurrentDevice {
 public:
  explicit CurrentDevice(int ordinal) {
    error_ = cudaGetDevice(&before_);
    if (error_ == cudaSuccess && before_ != ordinal) {
      error_ = cudaSetDevice(ordinal);
      changed_ = error_ == cudaSuccess;
    }
    forget(error_);
  }
  ~CurrentDevice() {
    if (changed_) forget(cudaSetDevice(before_));
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;
  Result<void> result() const {
    if (error_ == cudaSuccess) return {};
    return device_failure(error_, "choosing the device");
  }

 private:
  int before_ = 0;
  bool changed_ = false;
  cudaError_t error_ = cudaSuccess;
};

}  // namespace cdna::cuda
