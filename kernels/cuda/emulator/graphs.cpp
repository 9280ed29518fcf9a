// Graphs: work that is captured from one stream, and launched as a whole.
#include "state.h"

namespace emulator {
namespace {

cudaError_t end_capture(const std::shared_ptr<Stream>& stream, cudaGraph_t* graph) {
  State& s = state();
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (stream->captured == nullptr) return cudaErrorIllegalState;
  const auto work = std::move(stream->captured);
  stream->captured = nullptr;
  --s.captures;
  *graph = nullptr;
  if (s.capture_is_invalid) return cudaErrorStreamCaptureInvalidated;
  *graph = new GraphHandle{work};
  s.graphs.insert(*graph);
  return cudaSuccess;
}

}  // namespace
}  // namespace emulator

using namespace emulator;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const Call call("cudaStreamBeginCapture");
  if (call.error() != cudaSuccess) return call(call.error());
  const auto queue = find_stream(stream);
  if (queue == nullptr) return call(cudaErrorInvalidResourceHandle);
  if (stream == nullptr || queue->captured != nullptr) return call(cudaErrorStreamCaptureUnsupported);
  queue->captured = std::make_shared<GraphWork>();
  if (state().captures++ == 0) state().capture_is_invalid = false;
  return call(cudaSuccess);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const Call call("cudaStreamIsCapturing");
  if (call.error() != cudaSuccess) return call(call.error());
  const auto queue = find_stream(stream);
  if (queue == nullptr) return call(cudaErrorInvalidResourceHandle);
  *status = queue->captured == nullptr   ? cudaStreamCaptureStatusNone
            : state().capture_is_invalid ? cudaStreamCaptureStatusInvalidated
                                         : cudaStreamCaptureStatusActive;
  return call(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Call call("cudaStreamEndCapture");
  const cudaError_t error = end_capture(find_stream(stream), graph);
  return call(call.error() != cudaSuccess ? call.error() : error);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  const Call call("cudaGraphInstantiate");
  if (call.error() != cudaSuccess) return call(call.error());
  if (state().graphs.count(graph) == 0) return call(cudaErrorInvalidValue);
  *executable = new GraphHandle{graph->work};
  state().graphs.insert(*executable);
  return call(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const Call call("cudaGraphLaunch");
  if (call.error() != cudaSuccess) return call(call.error());
  const auto queue = find_stream(stream);
  if (queue == nullptr) return call(cudaErrorInvalidResourceHandle);
  if (state().graphs.count(executable) == 0) return call(cudaErrorInvalidValue);
  for (const auto& run : *executable->work) enqueue(queue, run);
  return call(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const Call call("cudaGraphDestroy");
  if (state().graphs.erase(graph) == 0) return call(cudaErrorInvalidValue);
  delete graph;
  return call(call.error());
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) { return cudaGraphDestroy(executable); }
