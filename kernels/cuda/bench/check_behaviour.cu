// What products promise beside their numbers: the same bits every time, streams, graphs, memory, segments, refusals.
#include <algorithm>
#include <functional>
#include <memory>

#include "check.h"

namespace cdna_cuda {
namespace {

constexpr std::uint32_t kRows = 1000;
constexpr std::uint32_t kCols = 2049;
constexpr std::uint32_t kTinyRows = 35;
constexpr std::uint32_t kTinyCols = 300;

// What the checks below have in common.
struct Setting {
  const Device& device;
  bool tiny;
  std::uint32_t rows;
  std::uint32_t cols;
  Tally* tally;
};

// How many elements are as Output::poison leaves them: a NaN that no product gives.
std::size_t poisoned(const std::vector<unsigned char>& bytes, Float type) {
  const std::size_t size = size_of(type);
  std::size_t count = 0;
  for (std::size_t begin = 0; begin < bytes.size(); begin += size) {
    const auto* const element = bytes.data() + begin;
    count += std::all_of(element, element + size, [](unsigned char byte) { return byte == 0xFF; });
  }
  return count;
}

// Whether there is a plan. stream does all that is asked here: it must not refuse.
bool is_planned(const Setting& setting, const LinearPlan& planned, Loop loop) {
  const bool is_ok = planned.outcome.status == Status::ok;
  if (loop == Loop::stream) setting.tally->check(is_ok, "stream is refused: %s", planned.outcome.reason);
  return is_ok;
}

// A call with all it needs. That calls succeed and write all of y is tallied.
struct Product {
  Product(const Setting& with, const char* preset, std::uint32_t rows, std::uint32_t cols, std::uint32_t m, Float type,
          Loop loop, std::uint64_t seed = 3)
      : matrix(preset_named(preset), rows, cols, seed), x(type, m, cols, 0, seed), y(type, m, rows), setting(with) {
    segments.push_back({matrix.weights(), nullptr, 0});
    call = call_of(segments, x, m, y, loop);
    planned = plan(call, setting.device);
    if (!is_planned(setting, planned, loop)) return;
    workspace = std::make_unique<Workspace>(planned.workspace_bytes);
    workspace->give_to(&call);
  }
  bool possible() const { return planned.outcome.status == Status::ok; }
  void run(cudaStream_t stream = nullptr) {
    call.stream = stream;
    const Outcome outcome = linear(call, setting.device);
    setting.tally->check(outcome.status == Status::ok, "m %u, %s: %s", call.m, name_of(call.loop), outcome.reason);
  }
  // What y is, every element of it written.
  std::vector<unsigned char> written() const {
    std::vector<unsigned char> bytes = y.host();
    const std::size_t unwritten = poisoned(bytes, y.type());
    setting.tally->check(unwritten == 0, "m %u, %s: %zu elements of y were not written", call.m, name_of(call.loop),
                         unwritten);
    return bytes;
  }
  // What y is after one run from poison.
  std::vector<unsigned char> once() {
    y.poison();
    run();
    require(cudaDeviceSynchronize(), "the product");
    return written();
  }

  Matrix matrix;
  Activations x;
  Output y;
  std::vector<Segment> segments;
  LinearCall call;
  LinearPlan planned;
  const Setting& setting;
  std::unique_ptr<Workspace> workspace;
};

void check_repeats(const Setting& setting, const Preset& preset) {
  for (const std::uint32_t m : {1U, 17U, 256U}) {
    if (setting.tiny && m > 17) continue;
    for (const Loop loop : kLoops) {
      Product product(setting, preset.name, setting.rows, setting.cols, m, m == 17 ? Float::bf16 : Float::f16, loop);
      if (!product.possible()) continue;
      const std::vector<unsigned char> first = product.once();
      unsigned differ = 0;
      const unsigned times = setting.tiny ? 2 : 20;
      for (unsigned i = 1; i < times; ++i) differ += product.once() != first;
      setting.tally->check(differ == 0, "%s, m %u, %s: %u of %u repeats have other bits", preset.name, m, name_of(loop),
                           differ, times);
    }
  }
}

struct Stream {
  Stream() { require(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking), "a stream"); }
  ~Stream() { cudaStreamDestroy(handle); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t handle = nullptr;
};

void check_streams(const Setting& setting) {
  for (const Loop loop : kLoops) {
    Product one(setting, "cb8g64", setting.rows, setting.cols, 5, Float::f16, loop, 11);
    Product two(setting, "cb4g32", setting.rows + 77, kCols, 5, Float::bf16, loop, 12);
    if (!one.possible() || !two.possible()) continue;
    const std::vector<unsigned char> alone_one = one.once();
    const std::vector<unsigned char> alone_two = two.once();
    one.y.poison();
    two.y.poison();
    require(cudaDeviceSynchronize(), "poison");
    const Stream first;
    const Stream second;
    for (unsigned i = 0; i < (setting.tiny ? 2 : 50); ++i) {
      one.run(first.handle);
      two.run(second.handle);
    }
    require(cudaStreamSynchronize(first.handle), "the first stream");
    require(cudaStreamSynchronize(second.handle), "the second stream");
    setting.tally->check(one.y.host() == alone_one && two.y.host() == alone_two,
                         "%s: two streams at once give other bits", name_of(loop));
  }
}

void check_graphs(const Setting& setting) {
  for (const Loop loop : kLoops) {
    Product product(setting, "cb8g64", setting.rows, setting.cols, 9, Float::bf16, loop);
    if (!product.possible()) continue;
    const std::vector<unsigned char> expected = product.once();
    const Stream stream;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    require(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal), "capturing");
    product.run(stream.handle);
    product.run(stream.handle);
    const cudaError_t captured = cudaStreamEndCapture(stream.handle, &graph);
    if (!setting.tally->check(captured == cudaSuccess, "%s: cannot be captured: %s", name_of(loop),
                              cudaGetErrorString(captured))) {
      continue;
    }
    require(cudaGraphInstantiate(&executable, graph, 0), "a graph");
    for (unsigned i = 0; i < 3; ++i) {
      product.y.poison();
      require(cudaGraphLaunch(executable, stream.handle), "launching a graph");
      require(cudaStreamSynchronize(stream.handle), "a graph");
      setting.tally->check(product.y.host() == expected, "%s: a replayed graph gives other bits", name_of(loop));
    }
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
  }
}

// The context's free memory while products run, and what plans ask for.
void check_memory(const Setting& setting) {
  for (const std::uint32_t m : {1U, 16U, 64U, 1000U}) {
    if (setting.tiny && m > 16) continue;
    for (const Loop loop : kLoops) {
      const std::uint32_t rows = setting.tiny ? 35 : 4096;
      const std::uint32_t cols = setting.tiny ? 300 : 14336;
      Product product(setting, "cb4g32", rows, cols, m, Float::f16, loop);
      if (!product.possible()) continue;
      product.once();  // Code is loaded at its first launch.
      std::size_t before = 0;
      std::size_t during = 0;
      std::size_t total = 0;
      require(cudaMemGetInfo(&before, &total), "free memory");
      for (unsigned i = 0; i < 5; ++i) product.run();
      require(cudaMemGetInfo(&during, &total), "free memory");
      require(cudaDeviceSynchronize(), "products");
      setting.tally->check(during >= before, "m %u, %s: %zu bytes were allocated", m, name_of(loop), before - during);
      // Sums in f32 for each part of k, with y padded to blocks, and x as two f16.
      const std::size_t sums = std::size_t{4} * product.planned.splits * ((m + 255) / 256 * 256) * (rows + 255);
      const std::size_t most = 65536 + sums + std::size_t{4} * m * cols;
      setting.tally->check(product.planned.workspace_bytes <= most, "m %u, %s: a workspace of %zu bytes, at most %zu",
                           m, name_of(loop), product.planned.workspace_bytes, most);
      if (m <= 16 && !setting.tiny) {
        setting.tally->check(product.planned.workspace_bytes < product.matrix.bytes() / 4,
                             "m %u, %s: the workspace is as W", m, name_of(loop));
      }
    }
  }
}

// Three matrices of different presets side by side, two of them with a bias.
void check_segments(const Setting& setting, Float type, std::uint32_t m, Loop loop) {
  struct Part {
    const char* preset;
    std::uint32_t rows;
    std::uint64_t column;
    bool biased;
  };
  const Part parts[] = {{"cb8g64", 100, 5, true}, {"cb4g32", 33, 110, false}, {"pwl16", 50, 150, true}};
  constexpr std::uint32_t kSegmentCols = 300;
  const Activations x(type, m, kSegmentCols, 0, 21);
  const Output y(type, m, 210);
  std::vector<Matrix> matrices;
  std::vector<Activations> biases;
  std::vector<Segment> segments;
  for (const Part& part : parts) {
    matrices.emplace_back(preset_named(part.preset), part.rows, kSegmentCols, 22);
    biases.emplace_back(type, 1, part.rows, 0, 23 + part.rows);
    segments.push_back({matrices.back().weights(), part.biased ? biases.back().data() : nullptr, part.column});
  }
  LinearCall call = call_of(segments, x, m, y, loop);
  const LinearPlan planned = plan(call, setting.device);
  if (!is_planned(setting, planned, loop)) return;
  const Workspace workspace(planned.workspace_bytes);
  workspace.give_to(&call);
  const Outcome outcome = linear(call, setting.device);
  require(cudaDeviceSynchronize(), "segments");
  setting.tally->check(outcome.status == Status::ok, "segments, %s: %s", name_of(loop), outcome.reason);
  for (std::size_t i = 0; i < 3; ++i) {
    const Reference reference = make_reference(matrices[i].recipe(), type, x.seed(), m, parts[i].rows);
    const Compared compared{y.data(), type, y.stride(), parts[i].column, m, parts[i].rows, segments[i].bias};
    const Difference difference = compare(compared, reference, bound_of(loop, type, type, kSegmentCols), false);
    setting.tally->check(difference.wrong == 0, "segment %zu, m %u, %s, %s: %llu elements are wrong", i, m,
                         name_of(type), name_of(loop), static_cast<unsigned long long>(difference.wrong));
  }
  const std::vector<unsigned char> bytes = y.host();
  std::uint64_t touched = 0;
  for (std::size_t byte = 0; byte < bytes.size(); ++byte) {
    const std::size_t column = byte / size_of(type) % 210;
    bool inside = false;
    for (const Part& part : parts) inside = inside || column - part.column < part.rows;
    touched += !inside && bytes[byte] != 0xFF;
  }
  setting.tally->check(touched == 0, "segments, m %u, %s: %llu bytes beside them were written", m, name_of(loop),
                       static_cast<unsigned long long>(touched));
}

// Calls that cannot be done: nothing is launched, y stays as it was.
void check_refusals(const Setting& setting) {
  struct Refusal {
    const char* what;
    Status status;
    std::function<void(LinearCall*, std::vector<Segment>*, Device*)> spoil;
  };
  const auto bad = Status::bad_argument;
  const auto unsupported = Status::unsupported;
  using Segments = std::vector<Segment>;
  const Refusal refusals[] = {
      {"no segments", bad, [](LinearCall* call, Segments*, Device*) { call->segment_count = 0; }},
      {"nine segments", unsupported,
       [](LinearCall* call, Segments*, Device*) { call->segment_count = kSegmentsMax + 1; }},
      {"segments at null", bad, [](LinearCall* call, Segments*, Device*) { call->segments = nullptr; }},
      {"no x", bad, [](LinearCall* call, Segments*, Device*) { call->x = nullptr; }},
      {"no y", bad, [](LinearCall* call, Segments*, Device*) { call->y = nullptr; }},
      {"x between elements", bad,
       [](LinearCall* call, Segments*, Device*) { call->x = static_cast<const char*>(call->x) + 1; }},
      {"rows of x that overlap", bad, [](LinearCall* call, Segments*, Device*) { call->x_stride -= 1; }},
      {"rows of y that overlap", bad, [](LinearCall* call, Segments*, Device*) { call->y_stride -= 1; }},
      {"codes of 7 bits", unsupported, [](LinearCall*, Segments* all, Device*) { all->front().weights.bits = 7; }},
      {"groups of 48", unsupported, [](LinearCall*, Segments* all, Device*) { all->front().weights.group = 48; }},
      {"no tiles", bad, [](LinearCall*, Segments* all, Device*) { all->front().weights.tiles = nullptr; }},
      {"tiles at an odd address", bad,
       [](LinearCall*, Segments* all, Device*) {
         all->front().weights.tiles = static_cast<const char*>(all->front().weights.tiles) + 4;
       }},
      {"no codebook", bad, [](LinearCall*, Segments* all, Device*) { all->front().weights.codebook = nullptr; }},
      {"scales without a table", bad,
       [](LinearCall*, Segments* all, Device*) { all->front().weights.scale_table = nullptr; }},
      {"segments of different columns", bad,
       [](LinearCall* call, Segments* all, Device*) {
         all->push_back(all->front());
         all->back().weights.cols -= 1;
         call->segments = all->data();
         call->segment_count = 2;
       }},
      {"an old device", unsupported,
       [](LinearCall*, Segments*, Device* old) {
         old->major = 7;
         old->minor = 5;
       }},
      {"wgmma on sm_80", unsupported,
       [](LinearCall* call, Segments*, Device* old) {
         call->loop = Loop::wgmma;
         old->major = 8;
         old->minor = 0;
       }},
  };
  Product product(setting, "cb8g64", setting.rows, setting.cols, 3, Float::f16, Loop::stream);
  if (!product.possible()) return;
  product.y.poison();
  for (const Refusal& refusal : refusals) {
    LinearCall call = product.call;
    Segments segments = product.segments;
    call.segments = segments.data();
    Device spoilt = setting.device;
    refusal.spoil(&call, &segments, &spoilt);
    const Outcome outcome = linear(call, spoilt);
    setting.tally->check(outcome.status == refusal.status && outcome.reason[0] != '\0', "%s: status %d, \"%s\"",
                         refusal.what, static_cast<int>(outcome.status), outcome.reason);
  }
  if (product.planned.workspace_bytes > 0) {
    LinearCall call = product.call;
    call.workspace_bytes -= 1;
    setting.tally->check(linear(call, setting.device).status == bad, "a workspace that is too small is taken");
    call = product.call;
    call.workspace = static_cast<char*>(call.workspace) + 16;
    setting.tally->check(linear(call, setting.device).status == bad, "a workspace at an odd address is taken");
  }
  LinearCall call = product.call;
  call.m = 0;
  setting.tally->check(linear(call, setting.device).status == Status::ok, "m = 0 is refused");
  require(cudaDeviceSynchronize(), "what was refused");
  setting.tally->check(product.y.is_poison(), "a refused call wrote to y");
  product.once();  // As it was before it was spoilt, it is done.
}

}  // namespace

void check_behaviour(const Device& device, const CheckOptions& options, Tally* tally) {
  tally->begin_section();
  const Setting setting{device, options.tiny, options.tiny ? kTinyRows : kRows, options.tiny ? kTinyCols : kCols,
                        tally};
  check_refusals(setting);
  check_memory(setting);
  check_streams(setting);
  check_graphs(setting);
  for (const Loop loop : kLoops) {
    for (const Float type : {Float::f16, Float::bf16, Float::f32}) {
      for (const std::uint32_t m : {1U, 9U, 130U}) {
        if (!options.tiny || m == 9) check_segments(setting, type, m, loop);
      }
    }
  }
  for (const Preset& preset : presets()) {
    if (options.preset.empty() || options.preset == preset.name) check_repeats(setting, preset);
  }
  std::printf("refusals, memory, streams, graphs, segments, repeats: %u passed, %u failed so far\n", tally->passed(),
              tally->failed());
  std::fflush(stdout);
}

}  // namespace cdna_cuda
