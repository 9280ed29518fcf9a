// Multiplies a random x with a tensor and compares with f64: multiply FILE TENSOR. Fails beyond the bound of
// matmul.hpp.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "cdna/matmul.hpp"

namespace {

constexpr std::uint64_t kRowsOfX = 8;
constexpr unsigned kSeed = 20250402;

std::vector<float> random_values(std::size_t count) {
  std::mt19937 random(kSeed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random()) / 4294967296.0F - 0.5F;
  return values;
}

// The largest |y - exact| / bound, W being read row by row. The bound is that of Math::f32 with |w| for all values,
// which at an outlier is at most what the header states.
cdna::Result<double> largest_error(const cdna::Tensor& tensor, const std::vector<float>& x,
                                   const std::vector<float>& y) {
  const std::uint64_t k = tensor.cols();
  const double unit = std::ldexp(static_cast<double>(k + 16), -24);
  double largest = 0;
  std::vector<float> w(k);
  for (std::uint64_t row = 0; row < tensor.rows(); ++row) {
    const auto read = tensor.read_rows(row, row + 1, cdna::DType::f32, std::as_writable_bytes(std::span(w)));
    if (!read) return read.error();
    for (std::uint64_t i = 0; i < kRowsOfX; ++i) {
      double exact = 0;
      double magnitude = 0;
      for (std::uint64_t j = 0; j < k; ++j) {
        const double product = static_cast<double>(x[i * k + j]) * static_cast<double>(w[j]);
        exact += product;
        magnitude += std::abs(product);
      }
      const double error = std::abs(static_cast<double>(y[i * tensor.rows() + row]) - exact);
      if (std::isnan(error)) return error;
      if (error > 0) largest = std::max(largest, error / (unit * magnitude));
    }
  }
  return largest;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 16;
  const auto reader = cdna::Reader::open(argv[1]);
  if (!reader) return std::fprintf(stderr, "%s\n", reader.error().describe().c_str()), 4;
  const auto tensor = reader->find(argv[2]);
  if (!tensor) return std::fprintf(stderr, "no such tensor\n"), 16;
  const std::vector<float> x = random_values(kRowsOfX * tensor->cols());
  std::vector<float> y(kRowsOfX * tensor->rows());

  cdna::Workers workers(2);
  cdna::MatmulOptions options;
  options.workers = &workers;
  const auto plan = cdna::describe(*tensor, kRowsOfX, options);
  if (!plan) return std::fprintf(stderr, "%s\n", plan.error().describe().c_str()), 4;
  const auto result = cdna::matmul(*tensor, cdna::row_major(x.data(), kRowsOfX, tensor->cols()),
                                   cdna::row_major(y.data(), kRowsOfX, tensor->rows()), options);
  if (!result) return std::fprintf(stderr, "%s\n", result.error().describe().c_str()), 4;

  const auto largest = largest_error(*tensor, x, y);
  if (!largest) return std::fprintf(stderr, "%s\n", largest.error().describe().c_str()), 4;
  std::printf("%s; %s, %s: seed %u, largest error %.4f of the bound\n", plan->kernel.c_str(), plan->loop.c_str(),
              std::string(cdna::name_of(plan->isa)).c_str(), kSeed, *largest);
  return *largest <= 1 ? 0 : 1;
}
