// The emulated CUDA runtime: work runs at the latest moment that CUDA allows, and what a program forgets is counted.
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "../../kernels/cuda/emulator/emulator.h"
#include "../../kernels/cuda/launch.h"

using Catch::Matchers::Contains;

namespace {

void start_anew() {
  emulator::reset();
  emulator::settings().prints_failures = false;
}

struct Pair {
  const int* from;
  int* to;
};
__global__ void add_one(const Pair pair) { pair.to[threadIdx.x] = pair.from[threadIdx.x] + 1; }

constexpr std::size_t kCount = 64;
constexpr std::size_t kBytes = kCount * sizeof(int);

int* device_ints() {
  int* pointer = nullptr;
  REQUIRE(cudaMalloc(&pointer, kBytes) == cudaSuccess);
  return pointer;
}

int* pinned_ints(int value) {
  int* pointer = nullptr;
  REQUIRE(cudaMallocHost(&pointer, kBytes) == cudaSuccess);
  for (std::size_t i = 0; i < kCount; ++i) pointer[i] = value;
  return pointer;
}

cudaStream_t new_stream(unsigned flags = cudaStreamNonBlocking) {
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, flags) == cudaSuccess);
  return stream;
}

cudaEvent_t new_event() {
  cudaEvent_t event = nullptr;
  REQUIRE(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
  return event;
}

int first_of(const int* device) {
  int value = 0;
  REQUIRE(cudaMemcpy(&value, device, sizeof(value), cudaMemcpyDeviceToHost) == cudaSuccess);
  return value;
}

cudaError_t launch_add_one(const int* from, int* to, cudaStream_t stream) {
  return cdna_cuda::launch(add_one, dim3(1), dim3(kCount), 0, stream, Pair{from, to});
}

}  // namespace

TEST_CASE("emulated runtime: device memory that was never written is NaN") {
  start_anew();
  float* pointer = nullptr;
  REQUIRE(cudaMalloc(&pointer, 100) == cudaSuccess);
  std::array<float, 25> values{};
  REQUIRE(cudaMemcpy(values.data(), pointer, 100, cudaMemcpyDeviceToHost) == cudaSuccess);
  for (const float value : values) REQUIRE(std::isnan(value));
  CHECK(cudaFree(pointer) == cudaSuccess);
  CHECK(emulator::leaks().empty());
}

TEST_CASE("emulated runtime: a copy from pinned memory reads it as late as the wait") {
  start_anew();
  int* const host = pinned_ints(1);
  int* const device = device_ints();
  const cudaStream_t stream = new_stream();
  REQUIRE(cudaMemcpyAsync(device, host, kBytes, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  host[0] = 2;
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(first_of(device) == 2);
  emulator::reset();
}

TEST_CASE("emulated runtime: a copy from pageable memory is staged before the call returns") {
  start_anew();
  std::vector<int> host(kCount, 1);
  int* const device = device_ints();
  const cudaStream_t stream = new_stream();
  REQUIRE(cudaMemcpyAsync(device, host.data(), kBytes, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  host[0] = 2;
  CHECK(emulator::counts().queued == 1);
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(first_of(device) == 1);
  emulator::reset();
}

TEST_CASE("emulated runtime: results arrive in pinned memory at the wait, in pageable memory at the call") {
  start_anew();
  int* const pinned = pinned_ints(0);
  std::vector<int> pageable(kCount, 0);
  int* const device = device_ints();
  const cudaStream_t stream = new_stream();
  REQUIRE(cudaMemsetAsync(device, 1, kBytes, stream) == cudaSuccess);
  REQUIRE(launch_add_one(device, device, stream) == cudaSuccess);
  REQUIRE(cudaMemcpyAsync(pinned, device, kBytes, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  CHECK(pinned[0] == 0);
  REQUIRE(cudaMemcpyAsync(pageable.data(), device, kBytes, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  CHECK(pageable[0] == 0x01010102);
  CHECK(pinned[0] == 0x01010102);  // Came before it in the stream.
  emulator::reset();
}

TEST_CASE("emulated runtime: streams that do not wait for each other see poison, with an event they do not") {
  for (const bool waits : {false, true}) {
    CAPTURE(waits);
    start_anew();
    int* const host = pinned_ints(41);
    int* const in = device_ints();
    int* const out = device_ints();
    const cudaStream_t copies = new_stream();
    const cudaStream_t kernels = new_stream();
    const cudaEvent_t copied = new_event();
    REQUIRE(cudaMemcpyAsync(in, host, kBytes, cudaMemcpyHostToDevice, copies) == cudaSuccess);
    REQUIRE(cudaEventRecord(copied, copies) == cudaSuccess);
    if (waits) REQUIRE(cudaStreamWaitEvent(kernels, copied) == cudaSuccess);
    REQUIRE(launch_add_one(in, out, kernels) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(kernels) == cudaSuccess);
    CHECK(first_of(out) == (waits ? 42 : 0));  // Poison, -1, and 1.
    emulator::reset();
  }
}

TEST_CASE("emulated runtime: an event waits for what was asked of its stream before it, no more") {
  start_anew();
  int* const a = device_ints();
  int* const pinned = pinned_ints(0);
  const cudaStream_t stream = new_stream();
  const cudaEvent_t event = new_event();
  REQUIRE(cudaEventQuery(event) == cudaSuccess);  // Never recorded.
  REQUIRE(cudaMemsetAsync(a, 0, kBytes, stream) == cudaSuccess);
  REQUIRE(launch_add_one(a, a, stream) == cudaSuccess);
  REQUIRE(cudaMemcpyAsync(pinned, a, kBytes, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  REQUIRE(cudaEventRecord(event, stream) == cudaSuccess);
  REQUIRE(launch_add_one(a, a, stream) == cudaSuccess);
  REQUIRE(cudaMemcpyAsync(pinned + 1, a, sizeof(int), cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  CHECK(cudaEventQuery(event) == cudaErrorNotReady);
  REQUIRE(cudaEventSynchronize(event) == cudaSuccess);
  CHECK(cudaEventQuery(event) == cudaSuccess);
  CHECK(pinned[0] == 1);
  CHECK(pinned[1] == 1);
  CHECK(cudaStreamQuery(stream) == cudaErrorNotReady);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(cudaStreamQuery(stream) == cudaSuccess);
  CHECK(pinned[1] == 2);
  emulator::reset();
}

TEST_CASE("emulated runtime: who asks an event again and again is answered some time") {
  start_anew();
  int* const device = device_ints();
  const cudaStream_t stream = new_stream();
  const cudaEvent_t event = new_event();
  for (int i = 0; i < 5; ++i) REQUIRE(cudaMemsetAsync(device, i, kBytes, stream) == cudaSuccess);
  REQUIRE(cudaEventRecord(event, stream) == cudaSuccess);
  int asked = 0;
  while (cudaEventQuery(event) == cudaErrorNotReady && asked < 100) ++asked;
  CHECK(asked == 6);
  emulator::reset();
}

TEST_CASE("emulated runtime: the legacy stream waits for blocking streams, and they for it") {
  start_anew();
  int* const a = device_ints();
  int* const b = device_ints();
  const cudaStream_t blocking = new_stream(cudaStreamDefault);
  const cudaStream_t apart = new_stream(cudaStreamNonBlocking);
  REQUIRE(cudaMemsetAsync(a, 0, kBytes, blocking) == cudaSuccess);
  REQUIRE(cudaMemsetAsync(b, 0, kBytes, apart) == cudaSuccess);
  REQUIRE(launch_add_one(a, a, nullptr) == cudaSuccess);
  REQUIRE(launch_add_one(a, a, blocking) == cudaSuccess);
  CHECK(first_of(a) == 2);
  CHECK(first_of(b) == -1);
  // A wait for one of the two runs what it waits for of the other.
  REQUIRE(cudaMemsetAsync(a, 0, kBytes, nullptr) == cudaSuccess);
  REQUIRE(launch_add_one(a, b, apart) == cudaSuccess);
  CHECK(emulator::counts().queued == 3);  // b was never set.
  REQUIRE(cudaStreamSynchronize(apart) == cudaSuccess);
  CHECK(emulator::counts().queued == 1);
  REQUIRE(launch_add_one(a, a, blocking) == cudaSuccess);
  REQUIRE(cudaStreamSynchronize(blocking) == cudaSuccess);
  CHECK(emulator::counts().queued == 0);
  CHECK(first_of(b) == 3);  // Of a as it was before it was set.
  CHECK(first_of(a) == 1);
  emulator::reset();
}

TEST_CASE("emulated runtime: freeing device memory waits, freeing pinned memory does not and is told") {
  start_anew();
  int* const host = pinned_ints(7);
  int* const device = device_ints();
  int* const kept = device_ints();
  const cudaStream_t stream = new_stream();
  REQUIRE(cudaMemcpyAsync(device, host, kBytes, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  REQUIRE(cudaMemcpyAsync(kept, device, kBytes, cudaMemcpyDeviceToDevice, stream) == cudaSuccess);
  CHECK(cudaFree(device) == cudaSuccess);
  CHECK(first_of(kept) == 7);
  REQUIRE(cudaMemcpyAsync(kept, host, kBytes, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  CHECK(cudaFreeHost(host) == cudaSuccess);
  CHECK(cudaStreamSynchronize(stream) == cudaErrorLaunchFailure);
  CHECK_THAT(emulator::failure(), Contains("after its memory had been freed"));
  emulator::reset();
}

TEST_CASE("emulated runtime: memory freed in a stream lives until the stream gets there") {
  start_anew();
  const cudaStream_t stream = new_stream();
  int* device = nullptr;
  REQUIRE(cudaMallocAsync(&device, kBytes, stream) == cudaSuccess);
  REQUIRE(cudaFreeAsync(device, stream) == cudaSuccess);
  CHECK(emulator::counts().device_allocations == 1);
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(emulator::counts().device_allocations == 0);
  CHECK(cudaFree(device) == cudaErrorInvalidValue);
  emulator::reset();
}

TEST_CASE("emulated runtime: a stream that is destroyed finishes its work") {
  start_anew();
  int* const device = device_ints();
  const cudaStream_t stream = new_stream();
  REQUIRE(cudaMemsetAsync(device, 0, kBytes, stream) == cudaSuccess);
  REQUIRE(cudaStreamDestroy(stream) == cudaSuccess);
  CHECK(emulator::counts().streams == 0);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(first_of(device) == 0);
  CHECK(cudaStreamSynchronize(stream) == cudaErrorInvalidResourceHandle);
  emulator::reset();
}

TEST_CASE("emulated runtime: copies and fills outside of what was allocated are refused") {
  start_anew();
  int* const device = device_ints();
  std::vector<int> host(2 * kCount);
  CHECK(cudaMemcpy(device, host.data(), kBytes + 1, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(host.data(), device + 1, kBytes, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(host.data(), device, kBytes, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(device, host.data(), kBytes, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemset(device, 0, kBytes + 1) == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaMemcpy(device, host.data(), kBytes, cudaMemcpyDefault) == cudaSuccess);
  CHECK(first_of(device) == 0);
  emulator::reset();
}

TEST_CASE("emulated runtime: rows are copied from pitch to pitch") {
  start_anew();
  std::vector<int> host(12);
  for (int i = 0; i < 12; ++i) host[static_cast<std::size_t>(i)] = i;
  int* const device = device_ints();
  REQUIRE(cudaMemset(device, 0, kBytes) == cudaSuccess);
  REQUIRE(cudaMemcpy2DAsync(device, 20, host.data(), 16, 12, 3, cudaMemcpyHostToDevice) == cudaSuccess);
  std::array<int, 13> got{};
  REQUIRE(cudaMemcpy(got.data(), device, sizeof(got), cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(got == std::array<int, 13>{0, 1, 2, 0, 0, 4, 5, 6, 0, 0, 8, 9, 10});
  emulator::reset();
}

TEST_CASE("emulated runtime: memory has an end, and its peak is kept") {
  start_anew();
  emulator::settings().memory_bytes = 1000;
  void* first = nullptr;
  void* second = nullptr;
  REQUIRE(cudaMalloc(&first, 600) == cudaSuccess);
  CHECK(cudaMalloc(&second, 401) == cudaErrorMemoryAllocation);
  CHECK(second == nullptr);
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  REQUIRE(cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess);
  CHECK(free_bytes == 400);
  CHECK(total_bytes == 1000);
  REQUIRE(cudaFree(first) == cudaSuccess);
  REQUIRE(cudaMalloc(&second, 401) == cudaSuccess);
  const emulator::Counts counts = emulator::counts();
  CHECK(counts.device_bytes == 401);
  CHECK(counts.device_bytes_peak == 600);
  CHECK(counts.device_allocations == 1);
  emulator::reset();
}

TEST_CASE("emulated runtime: what is not given back is told") {
  start_anew();
  int* const device = device_ints();
  int* const pinned = pinned_ints(0);
  const cudaStream_t stream = new_stream();
  const cudaEvent_t event = new_event();
  CHECK(emulator::leaks() ==
        "1 device allocations of 256 bytes, 1 pinned allocations of 256 bytes, 1 streams, 1 events");
  CHECK(cudaFree(device) == cudaSuccess);
  CHECK(cudaFreeHost(pinned) == cudaSuccess);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  CHECK(cudaEventDestroy(event) == cudaSuccess);
  CHECK(emulator::leaks().empty());
  CHECK(cudaFree(nullptr) == cudaSuccess);
  CHECK(cudaFreeHost(nullptr) == cudaSuccess);
}

namespace {

// What a well-behaved program does: the first error ends it, and everything is given back.
cudaError_t round_trip() {
  int* device = nullptr;
  int* pinned = nullptr;
  cudaStream_t stream = nullptr;
  cudaError_t error = cudaMalloc(&device, kBytes);
  if (error == cudaSuccess) error = cudaMallocHost(&pinned, kBytes);
  if (error == cudaSuccess) error = cudaStreamCreate(&stream);
  if (error == cudaSuccess) error = cudaMemsetAsync(device, 0, kBytes, stream);
  if (error == cudaSuccess) error = launch_add_one(device, device, stream);
  if (error == cudaSuccess) error = cudaMemcpyAsync(pinned, device, kBytes, cudaMemcpyDeviceToHost, stream);
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
  if (error == cudaSuccess) CHECK(pinned[0] == 1);
  if (stream != nullptr) cudaStreamDestroy(stream);
  cudaFree(device);
  cudaFreeHost(pinned);
  return error;
}

}  // namespace

TEST_CASE("emulated runtime: any call can be made to fail, by its number") {
  start_anew();
  REQUIRE(round_trip() == cudaSuccess);
  const std::uint64_t calls = emulator::counts().calls;
  CHECK(calls == 10);
  const std::array<std::string, 10> names = {
      "cudaMalloc",      "cudaMallocHost",        "cudaStreamCreateWithFlags", "cudaMemsetAsync", "launch",
      "cudaMemcpyAsync", "cudaStreamSynchronize", "cudaStreamDestroy",         "cudaFree",        "cudaFreeHost"};
  for (std::uint64_t nth = 1; nth <= calls; ++nth) {
    CAPTURE(nth);
    start_anew();
    emulator::fail_call(nth, cudaErrorMemoryAllocation);
    CHECK(round_trip() == (nth <= 7 ? cudaErrorMemoryAllocation : cudaSuccess));
    CHECK(emulator::failed_call() == names[nth - 1]);
    CHECK(emulator::leaks().empty());
  }
  start_anew();
  emulator::fail_call(3, cudaErrorUnknown, true);
  CHECK(round_trip() == cudaErrorUnknown);
  CHECK(cudaDeviceSynchronize() == cudaErrorUnknown);
  CHECK(emulator::leaks().empty());
  emulator::reset();
}

TEST_CASE("emulated runtime: the device is what the test says") {
  start_anew();
  emulator::settings().major = 7;
  emulator::settings().minor = 5;
  emulator::settings().multiprocessors = 40;
  emulator::settings().shared_bytes_per_block_max = 64 * 1024;
  int value = 0;
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess);
  CHECK(value == 7);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0) == cudaSuccess);
  CHECK(value == 64 * 1024);
  cudaDeviceProp properties;
  CHECK(cudaGetDeviceProperties(&properties, 0) == cudaSuccess);
  CHECK(properties.minor == 5);
  CHECK(properties.multiProcessorCount == 40);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 1) == cudaErrorInvalidDevice);
  CHECK(cudaSetDevice(1) == cudaErrorInvalidDevice);
  emulator::settings().devices = 0;
  CHECK(cudaGetDeviceCount(&value) == cudaErrorNoDevice);
  CHECK(value == 0);
  emulator::reset();
}

TEST_CASE("emulated runtime: each thread has its device, and what is of another is counted") {
  start_anew();
  emulator::settings().devices = 2;
  const cudaStream_t stream = new_stream();
  int* const device = device_ints();
  REQUIRE(cudaSetDevice(1) == cudaSuccess);
  int other = -1;
  std::thread([&other] { (void)cudaGetDevice(&other); }).join();
  CHECK(other == 0);
  CHECK(emulator::counts().device_choices == 1);
  REQUIRE(cudaMemsetAsync(device, 0, kBytes, stream) == cudaSuccess);
  CHECK(launch_add_one(device, device, stream) == cudaErrorInvalidResourceHandle);
  CHECK(emulator::counts().foreign_uses == 2);
  CHECK(cudaFree(device) == cudaSuccess);
  CHECK(emulator::counts().foreign_uses == 3);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  CHECK(emulator::counts().foreign_uses == 4);
  int* const own = device_ints();
  CHECK(cudaFree(own) == cudaSuccess);
  CHECK(cudaSetDevice(2) == cudaErrorInvalidDevice);
  CHECK(cudaGetDevice(&other) == cudaSuccess);
  CHECK(other == 1);
  CHECK(emulator::counts().foreign_uses == 4);
  emulator::reset();
  CHECK(cudaGetDevice(&other) == cudaSuccess);
  CHECK(other == 0);
}

TEST_CASE("emulated runtime: a function of the host runs in its place in the stream") {
  start_anew();
  int* const device = device_ints();
  int* const pinned = pinned_ints(0);
  const cudaStream_t stream = new_stream();
  REQUIRE(cudaMemsetAsync(device, 0, kBytes, stream) == cudaSuccess);
  REQUIRE(cudaMemcpyAsync(pinned, device, kBytes, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  REQUIRE(cudaLaunchHostFunc(
              stream, [](void* data) { *static_cast<int*>(data) = 5; }, pinned) == cudaSuccess);
  REQUIRE(cudaMemcpyAsync(device, pinned, kBytes, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(first_of(device) == 5);
  emulator::reset();
}

TEST_CASE("emulated runtime: captured work runs with every launch of its graph, and not before") {
  start_anew();
  int* const device = device_ints();
  REQUIRE(cudaMemset(device, 0, kBytes) == cudaSuccess);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  const cudaStream_t stream = new_stream();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
  REQUIRE(launch_add_one(device, device, stream) == cudaSuccess);
  REQUIRE(launch_add_one(device, device, stream) == cudaSuccess);
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  CHECK(first_of(device) == 0);
  REQUIRE(cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess);
  for (int i = 0; i < 3; ++i) REQUIRE(cudaGraphLaunch(executable, stream) == cudaSuccess);
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(first_of(device) == 6);
  CHECK_THAT(emulator::leaks(), Contains("2 graphs"));
  CHECK(cudaGraphExecDestroy(executable) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK_THAT(emulator::leaks(), !Contains("graphs"));
  emulator::reset();
}

TEST_CASE("emulated runtime: waiting, allocating or using the legacy stream spoils a capture") {
  const std::array<cudaError_t (*)(cudaStream_t), 4> spoilers = {
      [](cudaStream_t stream) { return cudaStreamSynchronize(stream); },
      [](cudaStream_t) {
        void* pointer = nullptr;
        return cudaMalloc(&pointer, 1);
      },
      [](cudaStream_t) { return cudaDeviceSynchronize(); },
      [](cudaStream_t) {
        cdna_cuda::launch(add_one, dim3(1), dim3(1), 0, nullptr, Pair{nullptr, nullptr});
        return cudaErrorStreamCaptureUnsupported;
      }};
  for (const auto spoil : spoilers) {
    start_anew();
    const cudaStream_t stream = new_stream();
    cudaGraph_t graph = nullptr;
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
    CHECK(spoil(stream) == cudaErrorStreamCaptureUnsupported);
    CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated);
    CHECK(graph == nullptr);
    emulator::reset();
  }
}
