// The call of the library.
#include "tools/bench/product.hpp"

#include "tools/bench/measure.hpp"

namespace cdna::tools::bench {

std::vector<float> sample_values(std::uint64_t count) {
  std::vector<float> values(count);
  std::uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525 + 1013904223;  // Numerical Recipes' linear congruential generator.
    value = static_cast<float>(state >> 8) * 0x1p-23F - 1;
  }
  return values;
}

Product::Product(const Tensor& tensor, std::uint64_t m, Math math, Orientation orientation, Workers& workers)
    : tensor_(tensor), m_(m) {
  options_.math = math;
  options_.orientation = orientation;
  options_.workers = workers.concurrency() > 1 ? &workers : nullptr;
  x_ = sample_values(m * x_cols());
  y_.resize(m * y_cols());
}

std::uint64_t Product::x_cols() const {
  return options_.orientation == Orientation::linear ? tensor_.cols() : tensor_.rows();
}

std::uint64_t Product::y_cols() const {
  return options_.orientation == Orientation::linear ? tensor_.rows() : tensor_.cols();
}

std::optional<MatmulPlan> Product::plan() const {
  Result<MatmulPlan> plan = describe(tensor_, m_, options_);
  if (!plan && plan.error().code == Code::unsupported) return std::nullopt;
  return require(std::move(plan));
}

void Product::run() { run(tensor_); }

void Product::run(const Tensor& tensor) {
  require(matmul(tensor, row_major(x(), m_, x_cols()), row_major(y_.data(), m_, y_cols()), options_));
  keep(y_.data());
}

}  // namespace cdna::tools::bench
