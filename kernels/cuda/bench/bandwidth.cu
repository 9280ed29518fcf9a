// What the memory gives at best: reading alone, copying, and pinned copies from the host.
#include <algorithm>

#include "../device.h"
#include "../launch.h"
#include "bench.h"

namespace cdna_cuda {
namespace {

constexpr unsigned kThreads = 512;

struct Read {
  const uint4* source;
  std::uint64_t count;  // Of 16 bytes; a multiple of what a block reads at once.
  std::uint32_t* sink;
};

// Blocks take turns over the buffer; `unroll` loads of each thread are under way together.
template <unsigned unroll>
__global__ void __launch_bounds__(kThreads) read_memory(const Read arguments) {
  std::uint32_t sum = 0;
  const std::uint64_t step = std::uint64_t{gridDim.x} * kThreads * unroll;
  for (std::uint64_t begin = std::uint64_t{blockIdx.x} * kThreads * unroll; begin < arguments.count; begin += step) {
    uint4 loaded[unroll];
#pragma unroll
    for (unsigned i = 0; i < unroll; ++i) {
      loaded[i] = load_once_16(arguments.source + begin + i * kThreads + threadIdx.x);
    }
#pragma unroll
    for (unsigned i = 0; i < unroll; ++i) sum ^= loaded[i].x ^ loaded[i].y ^ loaded[i].z ^ loaded[i].w;
  }
  // Hardly ever, but the compiler cannot know.
  if (sum == 0x9E3779B9U) *arguments.sink = sum;
}

template <unsigned unroll>
double read_rate(const Machine& machine, const DeviceArray<uint4>& buffer, unsigned blocks, Stopwatch* stopwatch) {
  const std::uint64_t whole = std::uint64_t{kThreads} * unroll;
  const std::uint64_t count = buffer.size() / whole * whole;
  const DeviceArray<std::uint32_t> sink(1);
  const Read read{buffer.data(), count, sink.data()};
  const dim3 grid(static_cast<unsigned>(machine.device.multiprocessors) * blocks);
  const Timing timing = stopwatch->measure(
      [&](unsigned) {
        require(launch(read_memory<unroll>, grid, dim3(kThreads), 0, stopwatch->stream(), read), "reading");
      },
      1, 0.15);
  return static_cast<double>(count * sizeof(uint4)) / timing.seconds;
}

// Not zeros: memory may be faster for them.
void fill_randomly(const DeviceArray<uint4>& buffer) {
  std::vector<std::uint64_t> pattern(std::size_t{1} << 20);
  for (std::size_t i = 0; i < pattern.size(); ++i) pattern[i] = random_bits(1, i, 0);
  for (std::size_t done = 0; done < buffer.bytes(); done += 8 * pattern.size()) {
    const std::size_t part = std::min(8 * pattern.size(), buffer.bytes() - done);
    require(cudaMemcpy(reinterpret_cast<char*>(buffer.data()) + done, pattern.data(), part, cudaMemcpyHostToDevice),
            "random bytes");
  }
}

double host_copy_rate(const DeviceArray<uint4>& buffer, Stopwatch* stopwatch) {
  const std::size_t bytes = std::min(buffer.bytes(), std::size_t{256} << 20);
  void* host = nullptr;
  require(cudaMallocHost(&host, bytes), "pinned memory");
  for (std::size_t i = 0; i < bytes; i += 4096) static_cast<char*>(host)[i] = static_cast<char>(i >> 12);
  const Timing timing = stopwatch->measure(
      [&](unsigned) {
        require(cudaMemcpyAsync(buffer.data(), host, bytes, cudaMemcpyHostToDevice, stopwatch->stream()), "copying");
      },
      1, 0.3);
  cudaFreeHost(host);
  return static_cast<double>(bytes) / timing.seconds;
}

}  // namespace

void measure_bandwidth(Machine* machine, Records* records) {
  const std::size_t bytes = std::min(machine->memory_bytes / 16, std::size_t{4} << 30);
  const DeviceArray<uint4> buffer(bytes / sizeof(uint4));
  const DeviceArray<uint4> other(buffer.size());
  fill_randomly(buffer);
  Stopwatch stopwatch;
  for (const unsigned blocks : {1U, 2U, 4U, 8U}) {
    const double rates[] = {read_rate<4>(*machine, buffer, blocks, &stopwatch),
                            read_rate<8>(*machine, buffer, blocks, &stopwatch)};
    std::printf("reading, %u blocks of %u threads per multiprocessor: %.0f GB/s with 4 loads each, %.0f with 8\n",
                blocks, kThreads, rates[0] * 1e-9, rates[1] * 1e-9);
    std::fflush(stdout);
    machine->read_bytes_per_second = std::max({machine->read_bytes_per_second, rates[0], rates[1]});
  }
  const Timing copy = stopwatch.measure(
      [&](unsigned) {
        require(
            cudaMemcpyAsync(other.data(), buffer.data(), buffer.bytes(), cudaMemcpyDeviceToDevice, stopwatch.stream()),
            "copying");
      },
      1, 0.3);
  machine->copy_bytes_per_second = 2 * static_cast<double>(buffer.bytes()) / copy.seconds;
  const double pinned = host_copy_rate(buffer, &stopwatch);
  std::printf("read bandwidth %.0f GB/s, copy %.0f GB/s (read and written), from pinned memory %.1f GB/s\n",
              machine->read_bytes_per_second * 1e-9, machine->copy_bytes_per_second * 1e-9, pinned * 1e-9);
  std::fflush(stdout);
  records->add(
      "\"kind\": \"bandwidth\", \"buffer_bytes\": %zu, \"read_gb_s\": %.1f, \"copy_gb_s\": %.1f, \"pinned_gb_s\": %.2f",
      buffer.bytes(), machine->read_bytes_per_second * 1e-9, machine->copy_bytes_per_second * 1e-9, pinned * 1e-9);
}

}  // namespace cdna_cuda
