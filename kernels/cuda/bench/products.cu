// Products of linear.h beside cuBLAS on the same matrix in bf16, and beside dequantising it before every product.
#include <cublas_v2.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "../pack.h"
#include "bench.h"
#include "reference.h"

namespace cdna_cuda {
namespace {

constexpr std::uint32_t kBatches[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096};
constexpr std::uint32_t kBatchMax = 4096;
constexpr const char* kPresets[] = {"free256", "cb4g32", "pwl16", "affine", "cb8g64", "cb6g64", "cb5g32"};
// stream reads W again for every so many rows of x: no contender above.
constexpr std::uint32_t kStreamBatchMax = 256;
// Of y, what errors are measured on.
constexpr std::uint32_t kErrorRows = 256;
constexpr std::uint32_t kErrorBatch = 64;

struct Shape {
  std::uint32_t rows;
  std::uint32_t cols;
};
// The largest first: goals are highest there.
constexpr Shape kShapes[] = {{12288, 49152}, {8192, 8192}, {4096, 4096}, {4096, 14336}, {14336, 4096}};
// Of rows and columns, with --quick.
constexpr std::uint32_t kQuickMax = 8192;

void require_cublas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw std::runtime_error(std::string(what) + ": cuBLAS " + std::to_string(status));
}

// How many buffers of a size make caches useless: four times the last level's size in all.
unsigned copies_of(std::size_t bytes, const Machine& machine) {
  return static_cast<unsigned>(std::max<std::size_t>(4 * machine.l2_bytes / bytes + 1, 2));
}

class Cublas {
 public:
  explicit Cublas(cudaStream_t stream) : workspace_(std::size_t{64} << 20) {
    require_cublas(cublasCreate(&handle_), "cublasCreate");
    require_cublas(cublasSetStream(handle_, stream), "cublasSetStream");
    require_cublas(cublasSetWorkspace(handle_, workspace_.data(), workspace_.bytes()), "cublasSetWorkspace");
  }
  ~Cublas() { cublasDestroy(handle_); }
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;

  // y [m, rows] = x [m, cols] w [rows, cols]^T, all bf16 and dense.
  void multiply(const Shape& shape, std::uint32_t m, const void* w, const void* x, void* y) {
    const float one = 1;
    const float zero = 0;
    const auto rows = static_cast<int>(shape.rows);
    const auto cols = static_cast<int>(shape.cols);
    require_cublas(
        cublasGemmEx(handle_, CUBLAS_OP_T, CUBLAS_OP_N, rows, static_cast<int>(m), cols, &one, w, CUDA_R_16BF, cols, x,
                     CUDA_R_16BF, cols, &zero, y, CUDA_R_16BF, rows, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "cublasGemmEx");
  }

 private:
  cublasHandle_t handle_ = nullptr;
  DeviceArray<unsigned char> workspace_;
};

// A goal with the floor under which the design is wrong; 0: none.
struct Goal {
  const char* of;
  double value;
  double goal;
  double floor;
};
const char* verdict(const Goal& goal) {
  return goal.value >= goal.goal ? "met" : goal.floor > 0 && goal.value < goal.floor ? "BELOW THE FLOOR" : "missed";
}

struct Measured {
  double seconds = 0;
  double bytes = 0;
  double bandwidth_part = 0;  // Of the read bandwidth.
  double cublas_seconds = 0;
  double decode_seconds = 0;  // Dequantising, then cuBLAS.
};

// What is asked of a case; empty: nothing.
std::vector<Goal> goals_of(const Preset& preset, std::uint32_t m, const Measured& measured) {
  std::vector<Goal> goals;
  const double times_cublas = measured.cublas_seconds / measured.seconds;
  const double megabytes = measured.bytes * 1e-6;
  const bool is_4_bits = std::string(preset.name) == "cb4g32";
  if (m == 1 && preset.bits == 8 && megabytes >= 16) {
    const double goal = megabytes >= 256 ? 0.85 : megabytes >= 64 ? 0.75 : 0.50;
    const double floor = megabytes >= 256 ? 0.65 : megabytes >= 64 ? 0.55 : 0.35;
    goals.push_back({"bandwidth", measured.bandwidth_part, goal, floor});
    goals.push_back({"cuBLAS", times_cublas, 1.6, 0});
  }
  if (m == 1 && is_4_bits && megabytes >= 128) {
    goals.push_back({"bandwidth", measured.bandwidth_part, 0.75, 0});
    goals.push_back({"cuBLAS", times_cublas, 2.6, 0});
  }
  if (m == 16 && megabytes >= 256) goals.push_back({"bandwidth", measured.bandwidth_part, 0.80, 0});
  if (m >= 1024 && preset.bits == 8) {
    const bool arithmetic = preset.curve != Curve::none;
    goals.push_back({"cuBLAS", times_cublas, arithmetic ? 0.80 : 0.70, arithmetic ? 0 : 0.55});
  }
  if (m >= 2048 && measured.decode_seconds > 0) {
    goals.push_back({"decode, then cuBLAS", measured.decode_seconds / measured.seconds, 0.9, 0});
  }
  return goals;
}

// All presets on one shape.
class ShapeBench {
 public:
  ShapeBench(const Machine& machine, const BenchOptions& options, const Deadline& deadline, Records* records,
             const Shape& shape)
      : machine_(machine),
        options_(options),
        deadline_(deadline),
        records_(*records),
        shape_(shape),
        cublas_(stopwatch_.stream()),
        x_(Float::bf16, kBatchMax, shape.cols, 0, 5),
        y_(std::size_t{kBatchMax} * shape.rows) {}

  void measure_cublas() {
    const std::size_t bytes = std::size_t{2} * shape_.rows * shape_.cols;
    std::vector<Activations> dense;
    for (unsigned i = 0; i < copies_of(bytes, machine_); ++i) {
      dense.emplace_back(Float::bf16, shape_.rows, shape_.cols, 0, 50 + i);
    }
    std::printf("\n[%u, %u]: cuBLAS on bf16\n", shape_.rows, shape_.cols);
    for (const std::uint32_t m : kBatches) {
      const auto enqueue = [&](unsigned i) {
        cublas_.multiply(shape_, m, dense[i % dense.size()].data(), x_.data(), y_.data());
      };
      const Timing timing = stopwatch_.measure(enqueue, static_cast<unsigned>(dense.size()));
      cublas_seconds_.push_back(timing.seconds);
      const double moved = static_cast<double>(bytes) + 2.0 * m * (shape_.cols + shape_.rows);
      std::printf("  m %4u  %9.2f us  %5.1f %% of read bandwidth  %7.1f TFLOP/s\n", m, timing.seconds * 1e6,
                  100 * moved / timing.seconds / machine_.read_bytes_per_second, teraflops(m, timing.seconds));
      std::fflush(stdout);
      records_.add(
          "\"kind\": \"cublas\", \"rows\": %u, \"cols\": %u, \"m\": %u, \"us\": %.3f, \"tflop_s\": %.2f, "
          "\"bandwidth_part\": %.4f, \"launches\": %u",
          shape_.rows, shape_.cols, m, timing.seconds * 1e6, teraflops(m, timing.seconds),
          moved / timing.seconds / machine_.read_bytes_per_second, timing.launches);
    }
  }

  void measure_preset(const Preset& preset) {
    if (deadline_.passed()) {
      std::printf("\n[%u, %u] %s: skipped, no time left\n", shape_.rows, shape_.cols, preset.name);
      return;
    }
    std::vector<Matrix> matrices;
    matrices.emplace_back(preset, shape_.rows, shape_.cols, 60);
    const unsigned copies = copies_of(matrices.front().bytes(), machine_);
    for (unsigned i = 1; i < copies; ++i) matrices.emplace_back(preset, shape_.rows, shape_.cols, 60 + i);
    const Reference reference = make_reference(matrices.front().recipe(), Float::bf16, x_.seed(), kErrorBatch,
                                               std::min(shape_.rows, kErrorRows));
    dense_ = DeviceArray<std::uint16_t>(std::size_t{shape_.rows} * shape_.cols);
    std::printf("\n[%u, %u] %s: %.1f MB, %u copies in turn\n", shape_.rows, shape_.cols, preset.name,
                static_cast<double>(matrices.front().bytes()) * 1e-6, copies);
    for (std::size_t i = 0; i < std::size(kBatches); ++i) {
      if (!deadline_.passed()) measure_batch(preset, matrices, reference, kBatches[i], cublas_seconds_[i]);
    }
  }

 private:
  double teraflops(std::uint32_t m, double seconds) const {
    return 2.0 * m * shape_.rows * shape_.cols / seconds * 1e-12;
  }

  // With x and y, without a workspace; multiplies with the first segment.
  LinearCall call_of(const std::vector<Segment>& segments, std::uint32_t m) const {
    LinearCall call;
    call.segments = segments.data();
    call.segment_count = 1;
    call.x = x_.data();
    call.x_type = Float::bf16;
    call.x_stride = x_.stride();
    call.m = m;
    call.y = y_.data();
    call.y_type = Float::bf16;
    call.y_stride = shape_.rows;
    call.stream = stopwatch_.stream();
    return call;
  }

  // Of a forced loop; 0: it does not do this.
  Timing measure_loop(const std::vector<Matrix>& matrices, std::uint32_t m, Loop loop, unsigned splits,
                      LinearPlan* planned) {
    std::vector<Segment> segments;
    for (const Matrix& matrix : matrices) segments.push_back({matrix.weights(), nullptr, 0});
    LinearCall call = call_of(segments, m);
    call.loop = loop;
    call.splits = splits;
    *planned = plan(call, machine_.device);
    if (planned->outcome.status != Status::ok) return {};
    if (workspace_.bytes() < planned->workspace_bytes) {
      workspace_ = DeviceArray<unsigned char>(planned->workspace_bytes);
      workspace_.fill(0);
    }
    call.workspace = workspace_.data();
    call.workspace_bytes = workspace_.bytes();
    const auto enqueue = [&](unsigned i) {
      LinearCall one = call;
      one.segments = &segments[i % segments.size()];
      const Outcome outcome = linear(one, machine_.device);
      if (outcome.status != Status::ok) throw std::runtime_error(std::string("linear: ") + outcome.reason);
    };
    return stopwatch_.measure(enqueue, static_cast<unsigned>(matrices.size()));
  }

  double measure_decoding_first(const std::vector<Matrix>& matrices, std::uint32_t m) {
    const auto enqueue = [&](unsigned i) {
      Dequantise call;
      call.weights = matrices[i % matrices.size()].weights();
      call.row_end = shape_.rows;
      call.out = dense_.data();
      call.type = Float::bf16;
      call.stride = shape_.cols;
      const Outcome outcome = dequantise(call, stopwatch_.stream());
      if (outcome.status != Status::ok) throw std::runtime_error(std::string("dequantise: ") + outcome.reason);
      cublas_.multiply(shape_, m, dense_.data(), x_.data(), y_.data());
    };
    return stopwatch_.measure(enqueue, static_cast<unsigned>(matrices.size())).seconds;
  }

  // Of one more product with the first matrix.
  Difference measure_error(const Matrix& matrix, const Reference& reference, std::uint32_t m, Loop loop) {
    const std::vector<Segment> segments = {{matrix.weights(), nullptr, 0}};
    LinearCall call = call_of(segments, m);
    call.workspace = workspace_.data();
    call.workspace_bytes = workspace_.bytes();
    call.loop = loop;
    y_.fill(0xFF);
    const Outcome outcome = linear(call, machine_.device);
    if (outcome.status != Status::ok) throw std::runtime_error(std::string("linear: ") + outcome.reason);
    require(cudaDeviceSynchronize(), "the product");
    const Compared compared{y_.data(), Float::bf16, shape_.rows, 0, std::min(m, kErrorBatch), reference.rows, nullptr};
    return compare(compared, reference, bound_of(loop, Float::bf16, Float::bf16, shape_.cols), false);
  }

  void measure_batch(const Preset& preset, const std::vector<Matrix>& matrices, const Reference& reference,
                     std::uint32_t m, double cublas_seconds) {
    const std::vector<Segment> segments = {{matrices.front().weights(), nullptr, 0}};
    const LinearPlan automatic = plan(call_of(segments, m), machine_.device);
    if (automatic.outcome.status != Status::ok) {
      std::printf("  m %4u  refused: %s\n", m, automatic.outcome.reason);
      return;
    }
    LinearPlan chosen;
    Timing timing;
    double loop_seconds[4] = {};
    for (const Loop loop : {Loop::stream, Loop::block, Loop::wgmma}) {
      if (loop == Loop::stream && m > kStreamBatchMax && automatic.loop != Loop::stream) continue;
      LinearPlan planned;
      const Timing of_loop = measure_loop(matrices, m, loop, 0, &planned);
      loop_seconds[static_cast<unsigned>(loop)] = of_loop.seconds;
      if (loop != automatic.loop) continue;
      timing = of_loop;
      chosen = planned;
    }
    Measured measured;
    measured.seconds = timing.seconds;
    measured.cublas_seconds = cublas_seconds;
    measured.decode_seconds = measure_decoding_first(matrices, m);
    measured.bytes = static_cast<double>(matrices.front().bytes()) + 2.0 * m * (shape_.cols + shape_.rows);
    measured.bandwidth_part = measured.bytes / measured.seconds / machine_.read_bytes_per_second;
    const Difference difference = measure_error(matrices.front(), reference, m, chosen.loop);
    print(preset, m, chosen, timing, measured, difference, loop_seconds);
    if (options_.tune && chosen.loop == Loop::stream) print_splits(matrices, m);
  }

  void print(const Preset& preset, std::uint32_t m, const LinearPlan& chosen, const Timing& timing,
             const Measured& measured, const Difference& difference, const double (&loops)[4]) {
    const double times_cublas = measured.cublas_seconds / measured.seconds;
    const double times_decode = measured.decode_seconds / measured.seconds;
    std::printf(
        "  m %4u  %-6s %2u splits  %9.2f us (%.2f to %.2f)  %5.1f %% of read bandwidth  %7.1f TFLOP/s  %5.2f x "
        "cuBLAS  %5.2f x decode+cuBLAS  error %.1e (%.2f of bound)",
        m, name_of(chosen.loop), chosen.splits, timing.seconds * 1e6, timing.fastest * 1e6, timing.slowest * 1e6,
        100 * measured.bandwidth_part, teraflops(m, measured.seconds), times_cublas, times_decode,
        difference.error_norm, difference.worst);
    if (difference.wrong != 0) std::printf("  WRONG RESULTS");
    std::string goals;
    for (const Goal& goal : goals_of(preset, m, measured)) {
      char text[160];
      std::snprintf(text, sizeof(text), "%s%s %.2f of %.2f %s", goals.empty() ? "" : "; ", goal.of, goal.value,
                    goal.goal, verdict(goal));
      goals += text;
    }
    std::printf("%s%s\n", goals.empty() ? "" : "  GOAL ", goals.c_str());
    std::fflush(stdout);
    records_.add(
        "\"kind\": \"product\", \"preset\": \"%s\", \"rows\": %u, \"cols\": %u, \"m\": %u, \"loop\": \"%s\", "
        "\"splits\": %u, \"us\": %.3f, \"us_fastest\": %.3f, \"us_slowest\": %.3f, \"launches\": %u, \"bytes\": %.0f, "
        "\"bandwidth_part\": %.4f, \"tflop_s\": %.2f, \"cublas_us\": %.3f, \"decode_cublas_us\": %.3f, "
        "\"times_cublas\": %.4f, \"times_decode_cublas\": %.4f, \"error\": %.3e, \"error_of_bound\": %.4f, "
        "\"wrong\": %llu, \"workspace_bytes\": %zu, \"stream_us\": %.3f, \"block_us\": %.3f, \"wgmma_us\": %.3f, "
        "\"goals\": \"%s\"",
        preset.name, shape_.rows, shape_.cols, m, name_of(chosen.loop), chosen.splits, measured.seconds * 1e6,
        timing.fastest * 1e6, timing.slowest * 1e6, timing.launches, measured.bytes, measured.bandwidth_part,
        teraflops(m, measured.seconds), measured.cublas_seconds * 1e6, measured.decode_seconds * 1e6, times_cublas,
        times_decode, difference.error_norm, difference.worst, static_cast<unsigned long long>(difference.wrong),
        chosen.workspace_bytes, loops[1] * 1e6, loops[2] * 1e6, loops[3] * 1e6, goals.c_str());
  }

  void print_splits(const std::vector<Matrix>& matrices, std::uint32_t m) {
    std::printf("          splits:");
    for (const unsigned splits : {1U, 2U, 3U, 4U, 6U, 8U, 12U, 16U, 24U, 32U}) {
      LinearPlan planned;
      const Timing timing = measure_loop(matrices, m, Loop::stream, splits, &planned);
      if (timing.seconds > 0 && planned.splits == splits)
        std::printf(" %u: %.2f us", planned.splits, timing.seconds * 1e6);
    }
    std::printf("\n");
  }

  const Machine& machine_;
  const BenchOptions& options_;
  const Deadline& deadline_;
  Records& records_;
  Shape shape_;
  Stopwatch stopwatch_;
  Cublas cublas_;
  Activations x_;
  DeviceArray<std::uint16_t> y_;
  DeviceArray<std::uint16_t> dense_;
  DeviceArray<unsigned char> workspace_;
  std::vector<double> cublas_seconds_;
};

// Of a shape: two dense matrices or more, matrices in codes of 8 bits, x, y.
std::size_t bytes_needed(const Shape& shape, const Machine& machine) {
  const std::size_t elements = std::size_t{shape.rows} * shape.cols;
  const std::size_t dense = copies_of(2 * elements, machine) * 2 * elements;
  const std::size_t codes = copies_of(elements / 2, machine) * elements / 2 + 2 * elements;
  const std::size_t batch = std::size_t{kBatchMax} * (shape.rows + shape.cols) * 2;
  return std::max(dense, std::max(codes, 2 * elements + copies_of(elements, machine) * elements)) + batch +
         (std::size_t{1} << 30);
}

}  // namespace

void measure_products(const Machine& machine, const BenchOptions& options, const Deadline& deadline, Records* records) {
  for (const Shape& shape : kShapes) {
    if (options.quick && std::max(shape.rows, shape.cols) > kQuickMax) continue;
    const std::size_t needed = bytes_needed(shape, machine);
    if (needed > machine.memory_bytes / 10 * 9 || deadline.passed()) {
      std::printf("\n[%u, %u]: skipped, %s\n", shape.rows, shape.cols,
                  deadline.passed() ? "no time left" : "it does not fit in the device's memory");
      continue;
    }
    ShapeBench bench(machine, options, deadline, records, shape);
    bench.measure_cublas();
    for (const char* const name : kPresets) {
      if (options.preset.empty() || options.preset == name) bench.measure_preset(preset_named(name));
    }
  }
}

}  // namespace cdna_cuda
