// How long launches take on the device: replays of a CUDA graph of many, the median of several.
#pragma once

#include <algorithm>
#include <functional>
#include <vector>

#include "device_array.h"

namespace cdna_cuda {

struct Timing {
  double seconds = 0;  // Per launch, median.
  double fastest = 0;
  double slowest = 0;
  unsigned launches = 0;  // In the graph.
};

// A stream of the benchmark's own, with the events around what is timed.
class Stopwatch {
 public:
  Stopwatch() {
    require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
    require(cudaEventCreate(&begin_), "an event");
    require(cudaEventCreate(&end_), "an event");
  }
  ~Stopwatch() {
    cudaEventDestroy(end_);
    cudaEventDestroy(begin_);
    cudaStreamDestroy(stream_);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  cudaStream_t stream() const { return stream_; }

  // `enqueue(i)` puts launch i on stream(). At least 20 launches, fewer if they are so long that the measurement would
  // take more than about seconds_max; whole rounds of `rotated` buffers, so that each is read after all others.
  Timing measure(const std::function<void(unsigned)>& enqueue, unsigned rotated, double seconds_max = 0.3) {
    const double once = replay_seconds(enqueue, 1, 2).front();
    const unsigned launches = launches_of(rotated, seconds_max / (kReplays + 2) / std::max(once, 1e-7));
    std::vector<double> times = replay_seconds(enqueue, launches, kReplays);
    std::sort(times.begin(), times.end());
    return {times[times.size() / 2] / launches, times.front() / launches, times.back() / launches, launches};
  }

 private:
  static constexpr unsigned kLaunches = 20;
  static constexpr unsigned kReplays = 9;

  // Whole rounds: the last launches of a part of one would leave what the next replay begins with in caches.
  static unsigned launches_of(unsigned rotated, double affordable) {
    const unsigned wanted = (kLaunches + rotated - 1) / rotated;
    const double rounds = std::clamp(affordable / rotated, 1.0, static_cast<double>(wanted));
    return static_cast<unsigned>(rounds) * rotated;
  }

  // After one replay that is not counted.
  std::vector<double> replay_seconds(const std::function<void(unsigned)>& enqueue, unsigned launches,
                                     unsigned replays) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    require(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capturing");
    for (unsigned i = 0; i < launches; ++i) enqueue(i);
    require(cudaStreamEndCapture(stream_, &graph), "capturing");
    require(cudaGraphInstantiate(&executable, graph, 0), "a graph");
    std::vector<double> times;
    for (unsigned i = 0; i <= replays; ++i) {
      require(cudaEventRecord(begin_, stream_), "timing");
      require(cudaGraphLaunch(executable, stream_), "launching a graph");
      require(cudaEventRecord(end_, stream_), "timing");
      require(cudaEventSynchronize(end_), "what is timed");
      float milliseconds = 0;
      require(cudaEventElapsedTime(&milliseconds, begin_, end_), "timing");
      if (i > 0) times.push_back(static_cast<double>(milliseconds) * 1e-3);
    }
    require(cudaGetLastError(), "what is timed");
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    return times;
  }

  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

}  // namespace cdna_cuda
