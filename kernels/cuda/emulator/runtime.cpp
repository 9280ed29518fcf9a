// The emulated runtime's state, errors and devices, and the tests' side of it.
#include "runtime.h"

#include <cstdio>
#include <cstring>

#include "state.h"

namespace emulator {
namespace {

thread_local cudaError_t t_last_error = cudaSuccess;
thread_local int t_device = 0;

bool is_device(int device) { return device >= 0 && device < state().settings.devices; }

int limit_of(std::size_t bytes) { return static_cast<int>(std::min(bytes, std::size_t{0x7FFFFFFF})); }

cudaError_t attribute_of(const Settings& s, cudaDeviceAttr attribute, int* value) {
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = 1024;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = limit_of(s.shared_bytes_per_block);
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = warpSize;
      return cudaSuccess;
    case cudaDevAttrClockRate:
      *value = 1'980'000;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = s.multiprocessors;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = 50 << 20;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = s.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = s.minor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = limit_of(s.shared_bytes_per_multiprocessor);
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = limit_of(s.shared_bytes_per_block_max);
      return cudaSuccess;
    case cudaDevAttrMemoryPoolsSupported:
      *value = 1;
      return cudaSuccess;
  }
  return cudaErrorInvalidValue;
}

}  // namespace

State& state() {
  static State the_state;
  return the_state;
}

Settings& settings() { return state().settings; }

void reset() {
  State& s = state();
  const std::lock_guard<std::recursive_mutex> lock(s.mutex);
  forget_allocations();
  for (StreamHandle* const handle : s.stream_handles) delete handle;
  for (EventHandle* const handle : s.event_handles) delete handle;
  s.stream_handles.clear();
  s.event_handles.clear();
  for (GraphHandle* const handle : s.graphs) delete handle;
  s.graphs.clear();
  s.captures = 0;
  s.shared_opt_in.clear();
  s.streams.clear();
  s.legacy = std::make_shared<Stream>();
  s.settings = {};
  s.counts = {};
  s.failure.clear();
  s.sticky = cudaSuccess;
  s.fail_at = 0;
  s.failed_call.clear();
  t_last_error = cudaSuccess;
  t_device = 0;
}

int current_device() { return t_device; }

void note_use(int device) {
  if (device != t_device) ++state().counts.foreign_uses;
}

const std::string& failure() { return state().failure; }

Counts counts() {
  State& s = state();
  const std::lock_guard<std::recursive_mutex> lock(s.mutex);
  Counts result = s.counts;
  result.streams = s.stream_handles.size();
  result.events = s.event_handles.size();
  result.graphs = s.graphs.size();
  return result;
}

std::string leaks() {
  const Counts c = counts();
  std::string text;
  const auto add = [&text](std::size_t count, const std::string& what) {
    if (count != 0) text += (text.empty() ? "" : ", ") + std::to_string(count) + " " + what;
  };
  add(c.device_allocations, "device allocations of " + std::to_string(c.device_bytes) + " bytes");
  add(c.pinned_allocations, "pinned allocations of " + std::to_string(c.pinned_bytes) + " bytes");
  add(c.streams, "streams");
  add(c.events, "events");
  add(c.graphs, "graphs");
  return text;
}

void fail_call(std::uint64_t nth, cudaError_t error, bool all_after) {
  State& s = state();
  const std::lock_guard<std::recursive_mutex> lock(s.mutex);
  s.fail_at = nth == 0 ? 0 : s.counts.calls + nth;
  s.fail_with = error;
  s.fail_all_after = all_after;
  s.failed_call.clear();
}

const std::string& failed_call() { return state().failed_call; }

Call::Call(const char* name, Capture capture) : lock_(state().mutex) {
  State& s = state();
  ++s.counts.calls;
  const bool fails =
      s.fail_at != 0 && (s.counts.calls == s.fail_at || (s.fail_all_after && s.counts.calls > s.fail_at));
  if (fails && s.failed_call.empty()) s.failed_call = name;
  error_ = fails ? s.fail_with : s.sticky;
  if (error_ == cudaSuccess && s.captures != 0 && capture == Capture::refused) {
    s.capture_is_invalid = true;
    error_ = cudaErrorStreamCaptureUnsupported;
  }
}

cudaError_t Call::operator()(cudaError_t result) const {
  if (result != cudaSuccess && result != cudaErrorNotReady) t_last_error = result;
  return result;
}

void lose_context(const std::string& message) {
  State& s = state();
  if (s.failure.empty()) s.failure = message;
  s.sticky = cudaErrorLaunchFailure;
  if (s.settings.prints_failures) std::fprintf(stderr, "emulator: %s\n", message.c_str());
}

}  // namespace emulator

using namespace emulator;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInitializationError:
      return "cudaErrorInitializationError";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidMemcpyDirection:
      return "cudaErrorInvalidMemcpyDirection";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorInvalidDeviceFunction:
      return "cudaErrorInvalidDeviceFunction";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorNoKernelImageForDevice:
      return "cudaErrorNoKernelImageForDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorIllegalState:
      return "cudaErrorIllegalState";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorLaunchOutOfResources:
      return "cudaErrorLaunchOutOfResources";
    case cudaErrorMisalignedAddress:
      return "cudaErrorMisalignedAddress";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorNotPermitted:
      return "cudaErrorNotPermitted";
    case cudaErrorNotSupported:
      return "cudaErrorNotSupported";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorUnknown:
      return "cudaErrorUnknown";
  }
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }

cudaError_t cudaGetLastError() {
  const State& s = state();
  const cudaError_t error = t_last_error;
  t_last_error = cudaSuccess;
  return s.sticky != cudaSuccess ? s.sticky : error;
}

cudaError_t cudaPeekAtLastError() { return state().sticky != cudaSuccess ? state().sticky : t_last_error; }

cudaError_t cudaGetDeviceCount(int* count) {
  const Call call("cudaGetDeviceCount");
  if (call.error() != cudaSuccess) return call(call.error());
  *count = settings().devices;
  return call(*count == 0 ? cudaErrorNoDevice : cudaSuccess);
}

cudaError_t cudaGetDevice(int* device) {
  const Call call("cudaGetDevice");
  if (call.error() != cudaSuccess) return call(call.error());
  if (!is_device(0)) return call(cudaErrorNoDevice);
  *device = t_device;
  return call(cudaSuccess);
}

cudaError_t cudaSetDevice(int device) {
  const Call call("cudaSetDevice");
  ++state().counts.device_choices;
  if (call.error() != cudaSuccess) return call(call.error());
  if (!is_device(0)) return call(cudaErrorNoDevice);
  if (!is_device(device)) return call(cudaErrorInvalidDevice);
  t_device = device;
  return call(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  const Call call("cudaDeviceGetAttribute");
  if (call.error() != cudaSuccess) return call(call.error());
  if (!is_device(device)) return call(cudaErrorInvalidDevice);
  return call(attribute_of(settings(), attribute, value));
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const Call call("cudaGetDeviceProperties");
  if (call.error() != cudaSuccess) return call(call.error());
  if (!is_device(device)) return call(cudaErrorInvalidDevice);
  const Settings& s = settings();
  *properties = {};
  std::strcpy(properties->name, "emulated device");
  properties->totalGlobalMem = s.memory_bytes;
  properties->sharedMemPerBlock = s.shared_bytes_per_block;
  properties->sharedMemPerBlockOptin = s.shared_bytes_per_block_max;
  properties->sharedMemPerMultiprocessor = s.shared_bytes_per_multiprocessor;
  properties->major = s.major;
  properties->minor = s.minor;
  properties->multiProcessorCount = s.multiprocessors;
  properties->maxThreadsPerBlock = 1024;
  properties->warpSize = warpSize;
  properties->l2CacheSize = 50 << 20;
  return call(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int* version) {
  const Call call("cudaDriverGetVersion");
  if (call.error() != cudaSuccess) return call(call.error());
  *version = settings().driver_version;
  return call(cudaSuccess);
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  const Call call("cudaRuntimeGetVersion");
  if (call.error() != cudaSuccess) return call(call.error());
  *version = 13000;
  return call(cudaSuccess);
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  const Call call("cudaFuncSetAttribute");
  if (call.error() != cudaSuccess) return call(call.error());
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return call(cudaSuccess);
  if (value < 0 || static_cast<std::size_t>(value) > settings().shared_bytes_per_block_max) {
    return call(cudaErrorInvalidValue);
  }
  state().shared_opt_in[function] = static_cast<std::size_t>(value);
  return call(cudaSuccess);
}
