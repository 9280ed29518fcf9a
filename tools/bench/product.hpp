// One multiplication with a tensor, with its x and y, to be done again and again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cdna/matmul.hpp"

namespace cdna::tools::bench {

class Product {
 public:
  // x of m rows with values in [-1, 1). The tensor's Reader and the workers outlive it.
  Product(const Tensor& tensor, std::uint64_t m, Math math, Orientation orientation, Workers& workers);

  // What run() does; nothing where this tensor cannot be multiplied with like that. Throws Failure: other errors.
  std::optional<MatmulPlan> plan() const;
  void run();  // Throws Failure.
  // With another view of the same tensor, say of a Reader that has not verified it.
  void run(const Tensor& tensor);

  const float* x() const { return x_.data(); }

 private:
  std::uint64_t x_cols() const;
  std::uint64_t y_cols() const;

  Tensor tensor_;
  std::uint64_t m_;
  MatmulOptions options_;
  std::vector<float> x_;
  std::vector<float> y_;
};

// `count` values in [-1, 1), always the same.
std::vector<float> sample_values(std::uint64_t count);

}  // namespace cdna::tools::bench
