// Products against float64: presets, shapes, m, types and loops.
#include <algorithm>
#include <chrono>
#include <cmath>

#include "check.h"

namespace cdna_cuda {
namespace {

struct Shape {
  std::uint32_t rows;
  std::uint32_t cols;
};

// Odd ones around the sizes of tiles, then those of layers.
std::vector<Shape> shapes(const CheckOptions& options) {
  if (options.tiny) return {{1, 1}, {17, 33}, {40, 300}};
  std::vector<Shape> all = {{1, 1}, {3, 130}, {17, 33}, {64, 128}, {127, 129}, {129, 257}, {257, 1000}, {1000, 2049}};
  if (options.quick) {
    all.push_back({1024, 4096});
  } else {
    all.insert(all.end(), {{1024, 4096}, {4096, 4096}, {14336, 4096}, {4096, 14336}});
  }
  return all;
}

std::vector<std::uint32_t> batches(const CheckOptions& options) {
  if (options.tiny) return {1, 3, 8, 9, 17};
  return {1, 2, 3, 4, 7, 8, 9, 16, 17, 32, 64, 65, 128, 256, 1000};
}

// Worst errors of one preset, and how often a loop ran.
struct LoopSummary {
  unsigned ran = 0;
  unsigned refused = 0;
  double worst = 0;
  double norm_part = 0;  // Of what is expected.
};

class ProductCheck {
 public:
  ProductCheck(const Device& device, const CheckOptions& options, const Preset& preset, Tally* tally)
      : device_(device), preset_(preset), batches_(batches(options)), tally_(tally) {}

  void check_shape(const Shape& shape, std::uint64_t seed) {
    shape_ = shape;
    const Matrix matrix(preset_, shape.rows, shape.cols, seed);
    const std::uint32_t m_max = batches_.back();
    for (const Float type : {Float::f16, Float::bf16, Float::f32}) {
      // An odd gap, so that rows of x start at any element; none where loads may be wide.
      const Activations x(type, m_max, shape.cols, shape.cols % 2 == 0 ? 0 : 3, seed);
      const Reference reference = make_reference(matrix.recipe(), type, seed, m_max, shape.rows);
      check_reference(matrix, x, reference);
      for (const std::uint32_t m : batches_) {
        for (const Loop loop : kLoops) check_loop(matrix, x, reference, m, loop);
        if (m == 17) check_splits(matrix, x, reference, m);
      }
    }
  }

  void print() const {
    std::printf("%-14s", preset_.name);
    for (const Loop loop : kLoops) {
      const LoopSummary& of_loop = summary(loop);
      std::printf("  %s: %u ran, %u refused", name_of(loop), of_loop.ran, of_loop.refused);
      if (of_loop.ran != 0) {
        std::printf(", error %.2f of its bound, %.2f of what is expected", of_loop.worst, of_loop.norm_part);
      }
      std::printf(";");
    }
    std::printf(" %u failed so far\n", tally_->failed());
    std::fflush(stdout);
  }

 private:
  // The device's float64 agrees with the host's, for some elements.
  void check_reference(const Matrix& matrix, const Activations& x, const Reference& reference) {
    const Recipe recipe = matrix.host_recipe();
    const std::uint64_t count = reference.exact.size();
    const std::uint64_t step = std::max<std::uint64_t>(1, count / (shape_.cols > 1000 ? 16 : 128));
    for (std::uint64_t index = 0; index < count; index += step) {
      const auto i = static_cast<std::uint32_t>(index / shape_.rows);
      const auto row = static_cast<std::uint32_t>(index % shape_.rows);
      const Sum sum = host_product(recipe, x.type(), x.seed(), i, row);
      double exact = 0;
      require(cudaMemcpy(&exact, reference.exact.data() + index, sizeof(exact), cudaMemcpyDeviceToHost), "an element");
      tally_->check(std::abs(sum.exact - exact) <= 1e-12 * sum.magnitude,
                    "%s [%u, %u]: float64 of the device and of the host differ at %u, %u: %g, %g", preset_.name,
                    shape_.rows, shape_.cols, i, row, exact, sum.exact);
    }
  }

  void check_loop(const Matrix& matrix, const Activations& x, const Reference& reference, std::uint32_t m, Loop loop) {
    check_product(matrix, x, x.type(), reference, m, loop, 0, m % 2 == 1);
    // Other types of y, at some sizes.
    if (m != 1 && m != 9 && m != 128) return;
    if (x.type() != Float::f32) check_product(matrix, x, Float::f32, reference, m, loop, 0, false);
    if (x.type() != Float::f16) check_product(matrix, x, Float::f16, reference, m, loop, 0, true);
    if (x.type() != Float::bf16) check_product(matrix, x, Float::bf16, reference, m, loop, 0, true);
  }

  void check_splits(const Matrix& matrix, const Activations& x, const Reference& reference, std::uint32_t m) {
    for (const unsigned splits : {1U, 2U, 3U, 5U}) {
      check_product(matrix, x, x.type(), reference, m, Loop::stream, splits, false);
    }
  }

  void check_product(const Matrix& matrix, const Activations& x, Float y_type, const Reference& reference,
                     std::uint32_t m, Loop loop, unsigned splits, bool biased) {
    // f16 holds nothing above 65504.
    if (preset_.huge_outliers && y_type == Float::f16) return;
    const Activations bias(y_type, biased ? 1 : 0, shape_.rows, 0, 7);
    // Of even m, aligned where the rows are, so that y may be written in wide words.
    const std::uint64_t column = m % 2 == 0 ? 0 : 5;
    const Output y(y_type, m, std::int64_t{shape_.rows} + 8);
    const std::vector<Segment> segments = {{matrix.weights(), biased ? bias.data() : nullptr, column}};
    LinearCall call = call_of(segments, x, m, y, loop);
    call.splits = splits;
    const LinearPlan planned = plan(call, device_);
    LoopSummary& of_loop = summary(loop);
    if (planned.outcome.status != Status::ok) {
      ++of_loop.refused;
      tally_->check(may_refuse(x.type(), loop, splits) && planned.outcome.status == Status::unsupported,
                    "%s: refused: %s", describe(x, y_type, m, loop, splits).c_str(), planned.outcome.reason);
      return;
    }
    ++of_loop.ran;
    const Workspace workspace(planned.workspace_bytes);
    workspace.give_to(&call);
    const Outcome outcome = linear(call, device_);
    const cudaError_t ended = cudaDeviceSynchronize();
    if (!tally_->check(outcome.status == Status::ok && ended == cudaSuccess, "%s: %s, %s",
                       describe(x, y_type, m, loop, splits).c_str(), outcome.reason, cudaGetErrorString(ended))) {
      require(ended, "the product");  // Nothing works after it.
      return;
    }
    const Bound bound = bound_of(loop, x.type(), y_type, shape_.cols);
    const Compared compared{y.data(), y_type, y.stride(), column, m, shape_.rows, biased ? bias.data() : nullptr};
    const Difference difference = compare(compared, reference, bound, true);
    judge(difference, bound, std::uint64_t{m} * shape_.rows, describe(x, y_type, m, loop, splits), &of_loop);
    tally_->check(workspace.is_intact(), "%s: the workspace's head is not 0, or more of it was written than planned",
                  describe(x, y_type, m, loop, splits).c_str());
  }

  void judge(const Difference& difference, const Bound& bound, std::uint64_t numbers, const std::string& what,
             LoopSummary* of_loop) {
    const std::uint64_t rows = shape_.rows;
    tally_->check(difference.wrong == 0, "%s: %llu elements are wrong, one at %llu, %llu", what.c_str(),
                  static_cast<unsigned long long>(difference.wrong),
                  static_cast<unsigned long long>(difference.first_wrong / rows),
                  static_cast<unsigned long long>(difference.first_wrong % rows));
    tally_->check(difference.touched == 0, "%s: %llu elements beside y were written", what.c_str(),
                  static_cast<unsigned long long>(difference.touched));
    // Few numbers are no average.
    if (numbers >= 300) {
      const double part = difference.error_norm / bound.of_norm;
      tally_->check(part <= 1, "%s: |y - exact| is %.3g |exact|, %.3g was expected", what.c_str(),
                    difference.error_norm, bound.of_norm);
      of_loop->norm_part = std::max(of_loop->norm_part, part);
    }
    of_loop->worst = std::max(of_loop->worst, difference.worst);
  }

  // stream does everything, but for more parts than there are. The batched loops leave x in f32 and outliers beyond f16
  // to it, and wgmma is not everywhere.
  bool may_refuse(Float x_type, Loop loop, unsigned splits) const {
    if (loop == Loop::stream) return splits > tiles_of_columns(shape_.cols);
    if (loop == Loop::wgmma && (device_.major != 9 || device_.minor != 0)) return true;
    return x_type == Float::f32 || preset_.huge_outliers;
  }

  std::string describe(const Activations& x, Float y_type, std::uint32_t m, Loop loop, unsigned splits) const {
    char text[160];
    std::snprintf(text, sizeof(text), "%s [%u, %u], m %u, x %s, y %s, %s, splits %u", preset_.name, shape_.rows,
                  shape_.cols, m, name_of(x.type()), name_of(y_type), name_of(loop), splits);
    return text;
  }

  LoopSummary& summary(Loop loop) { return summaries_[static_cast<unsigned>(loop)]; }
  const LoopSummary& summary(Loop loop) const { return summaries_[static_cast<unsigned>(loop)]; }

  const Device& device_;
  const Preset& preset_;
  const std::vector<std::uint32_t> batches_;
  Tally* tally_;
  Shape shape_{};
  LoopSummary summaries_[4];
};

}  // namespace

void check_products(const Device& device, const CheckOptions& options, Tally* tally) {
  const auto begin = std::chrono::steady_clock::now();
  for (const Preset& preset : presets()) {
    if (!options.preset.empty() && options.preset != preset.name) continue;
    if (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() > options.seconds) {
      std::printf("%s: skipped, no time left\n", preset.name);
      continue;
    }
    tally->begin_section();
    ProductCheck check(device, options, preset, tally);
    std::uint64_t seed = 100;
    for (const Shape& shape : shapes(options)) check.check_shape(shape, ++seed);
    check.print();
  }
}

}  // namespace cdna_cuda
