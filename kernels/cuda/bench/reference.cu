// Plain loops in float64, on the device because matrices are large.
#include <algorithm>
#include <cmath>

#include "../device.h"
#include "../launch.h"
#include "reference.h"

namespace cdna_cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr unsigned kRowsPerThread = 8;  // Of x.

struct Expand {
  Recipe recipe;
  Float x_type;
  std::uint64_t x_seed;
  std::uint32_t m;
  std::uint32_t rows;
  float* values;      // [cols, rows]
  float* magnitudes;  // [cols, rows]
  float* x;           // [m, cols]
};

CDNA_HD float magnitude_at(const Recipe& recipe, std::uint32_t row, std::uint32_t column) {
  const float decoded = decoded_at(recipe, row, column);
  const float value = value_at(recipe, row, column);
  return value == decoded ? fabsf(value) : fabsf(decoded) + fabsf(value - decoded);
}

__global__ void expand_weights(const Expand arguments) {
  const std::uint64_t index = std::uint64_t{blockIdx.x} * kThreads + threadIdx.x;
  const Recipe& recipe = arguments.recipe;
  if (index >= std::uint64_t{arguments.rows} * recipe.cols) return;
  const auto column = static_cast<std::uint32_t>(index / arguments.rows);
  const auto row = static_cast<std::uint32_t>(index % arguments.rows);
  arguments.values[index] = value_at(recipe, row, column);
  arguments.magnitudes[index] = magnitude_at(recipe, row, column);
}

__global__ void expand_activations(const Expand arguments) {
  const std::uint64_t index = std::uint64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::uint32_t cols = arguments.recipe.cols;
  if (index >= std::uint64_t{arguments.m} * cols) return;
  const auto row = static_cast<std::uint32_t>(index / cols);
  const auto column = static_cast<std::uint32_t>(index % cols);
  arguments.x[index] = activation_at(arguments.x_type, arguments.x_seed, row, column);
}

struct Multiply {
  const float* values;
  const float* magnitudes;
  const float* x;
  std::uint32_t m;
  std::uint32_t rows;
  std::uint32_t cols;
  double* exact;
  double* magnitude;
};

// A thread makes eight elements of a column of y.
__global__ void multiply(const Multiply arguments) {
  const std::uint32_t row = blockIdx.x * kThreads + threadIdx.x;
  const std::uint32_t first = blockIdx.y * kRowsPerThread;
  if (row >= arguments.rows) return;
  double exact[kRowsPerThread] = {};
  double magnitude[kRowsPerThread] = {};
  for (std::uint32_t k = 0; k < arguments.cols; ++k) {
    const double w = static_cast<double>(arguments.values[std::uint64_t{k} * arguments.rows + row]);
    const double size = static_cast<double>(arguments.magnitudes[std::uint64_t{k} * arguments.rows + row]);
#pragma unroll
    for (unsigned i = 0; i < kRowsPerThread; ++i) {
      const std::uint32_t x_row = first + i < arguments.m ? first + i : arguments.m - 1;
      const double x = static_cast<double>(arguments.x[std::uint64_t{x_row} * arguments.cols + k]);
      exact[i] += x * w;
      magnitude[i] += fabs(x) * size;
    }
  }
#pragma unroll
  for (unsigned i = 0; i < kRowsPerThread; ++i) {
    if (first + i >= arguments.m) continue;
    arguments.exact[std::uint64_t{first + i} * arguments.rows + row] = exact[i];
    arguments.magnitude[std::uint64_t{first + i} * arguments.rows + row] = magnitude[i];
  }
}

struct SizeRows {
  const float* numbers;
  std::uint32_t count;  // Of rows.
  std::uint32_t length;
  std::uint64_t row_stride;
  std::uint64_t element_stride;
  double* largest;
  double* sum;
};

__global__ void size_rows(const SizeRows arguments) {
  const std::uint32_t row = blockIdx.x * kThreads + threadIdx.x;
  if (row >= arguments.count) return;
  double largest = 0;
  double sum = 0;
  for (std::uint32_t k = 0; k < arguments.length; ++k) {
    const double size =
        fabs(static_cast<double>(arguments.numbers[row * arguments.row_stride + k * arguments.element_stride]));
    largest = fmax(largest, size);
    sum += size;
  }
  arguments.largest[row] = largest;
  arguments.sum[row] = sum;
}

// What one thread of compare_elements saw.
struct Part {
  std::uint64_t wrong;
  std::uint64_t first_wrong;
  std::uint64_t touched;
  double worst;
  double error_squares;
  double exact_squares;
};

struct CompareElements {
  Compared compared;
  Bound bound;
  bool poisoned;
  std::uint32_t reference_rows;
  const double* exact;
  const double* magnitude;
  const double* x_largest;
  const double* x_sum;
  const double* w_sum;
  const double* w_largest;
  Part* parts;
  std::uint64_t thread_count;
};

CDNA_DEVICE bool is_poison(const void* y, Float type, std::uint64_t index) {
  if (type == Float::f32) return static_cast<const std::uint32_t*>(y)[index] == 0xFFFFFFFFU;
  return static_cast<const std::uint16_t*>(y)[index] == 0xFFFFU;
}

CDNA_DEVICE void compare_element(const CompareElements& a, std::uint32_t i, std::uint32_t r, std::uint64_t place,
                                 Part* part) {
  const std::uint64_t index = std::uint64_t{i} * a.reference_rows + r;
  const double bias =
      a.compared.bias == nullptr ? 0 : static_cast<double>(element(a.compared.bias, a.compared.type, r));
  const double exact = a.exact[index] + bias;
  const double y = static_cast<double>(element(a.compared.y, a.compared.type, place));
  const double allowed = a.bound.magnitude * (a.magnitude[index] + fabs(bias)) +
                         a.bound.x_largest * a.x_largest[i] * a.w_sum[r] +
                         a.bound.w_largest * a.w_largest[r] * a.x_sum[i];
  // Rounding of y: of what the sum may have been.
  const double total = allowed + a.bound.of_result * (fabs(exact) + allowed) + a.bound.absolute;
  const double error = fabs(y - exact);
  part->error_squares += error * error;
  part->exact_squares += exact * exact;
  if (error <= total) {
    part->worst = fmax(part->worst, error / total);
  } else {
    if (part->wrong == 0) part->first_wrong = std::uint64_t{i} * a.compared.rows + r;
    ++part->wrong;
  }
}

__global__ void compare_elements(const CompareElements arguments) {
  const std::uint64_t thread = std::uint64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (thread >= arguments.thread_count) return;
  const Compared& compared = arguments.compared;
  const auto stride = static_cast<std::uint64_t>(compared.stride);
  Part part = {};
  for (std::uint64_t place = thread; place < compared.m * stride; place += arguments.thread_count) {
    const auto i = static_cast<std::uint32_t>(place / stride);
    const std::uint64_t column = place % stride;
    if (column - compared.column < compared.rows) {
      compare_element(arguments, i, static_cast<std::uint32_t>(column - compared.column), place, &part);
    } else if (arguments.poisoned && !is_poison(compared.y, compared.type, place)) {
      ++part.touched;
    }
  }
  arguments.parts[thread] = part;
}

dim3 blocks_for(std::uint64_t threads) { return dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)); }

}  // namespace

Reference make_reference(const Recipe& recipe, Float type, std::uint64_t seed, std::uint32_t m, std::uint32_t rows) {
  const std::size_t weights = std::size_t{rows} * recipe.cols;
  const std::size_t numbers = std::size_t{m} * recipe.cols;
  DeviceArray<float> values(weights), magnitudes(weights), x(numbers);
  const Expand expand{recipe, type, seed, m, rows, values.data(), magnitudes.data(), x.data()};
  require(launch(expand_weights, blocks_for(weights), dim3(kThreads), 0, nullptr, expand), "expanding weights");
  require(launch(expand_activations, blocks_for(numbers), dim3(kThreads), 0, nullptr, expand), "expanding x");

  Reference reference;
  reference.m = m;
  reference.rows = rows;
  reference.cols = recipe.cols;
  reference.exact = DeviceArray<double>(std::size_t{m} * rows);
  reference.magnitude = DeviceArray<double>(std::size_t{m} * rows);
  reference.x_largest = DeviceArray<double>(m);
  reference.x_sum = DeviceArray<double>(m);
  reference.w_largest = DeviceArray<double>(rows);
  reference.w_sum = DeviceArray<double>(rows);
  dim3 grid = blocks_for(rows);
  grid.y = (m + kRowsPerThread - 1) / kRowsPerThread;
  require(launch(multiply, grid, dim3(kThreads), 0, nullptr,
                 Multiply{values.data(), magnitudes.data(), x.data(), m, rows, recipe.cols, reference.exact.data(),
                          reference.magnitude.data()}),
          "multiplying in float64");
  require(
      launch(size_rows, blocks_for(m), dim3(kThreads), 0, nullptr,
             SizeRows{x.data(), m, recipe.cols, recipe.cols, 1, reference.x_largest.data(), reference.x_sum.data()}),
      "sizes of x");
  require(launch(size_rows, blocks_for(rows), dim3(kThreads), 0, nullptr,
                 SizeRows{magnitudes.data(), rows, recipe.cols, 1, rows, reference.w_largest.data(),
                          reference.w_sum.data()}),
          "sizes of W");
  require(cudaDeviceSynchronize(), "the reference");
  return reference;
}

Sum host_product(const Recipe& recipe, Float type, std::uint64_t seed, std::uint32_t i, std::uint32_t row) {
  Sum sum{0, 0};
  for (std::uint32_t k = 0; k < recipe.cols; ++k) {
    const double x = static_cast<double>(activation_at(type, seed, i, k));
    sum.exact += x * static_cast<double>(value_at(recipe, row, k));
    sum.magnitude += std::abs(x) * static_cast<double>(magnitude_at(recipe, row, k));
  }
  return sum;
}

Bound bound_of(Loop loop, Float x_type, Float y_type, std::uint32_t cols) {
  const double half_ulp = x_type == Float::bf16 ? 0x1p-8 : 0x1p-11;
  Bound bound{};
  // linear.h: 2 (k + c) u. c: scales (2), delta (2), parts of k, their sum and the bias.
  bound.magnitude = (cols + 64.0) * 0x1p-23;
  // Sums of 16 products truncate, one after the other: their errors have one sign.
  bound.of_norm = cols * 0x1p-26 + 0x1p-21;
  if (x_type == Float::f32) {
    bound.magnitude += 0x1p-21;
    bound.x_largest = 0x1p-38;
  }
  if (x_type == Float::bf16) {  // Entries as bf16.
    bound.magnitude += half_ulp;
    bound.of_norm += half_ulp;
  }
  if (loop != Loop::stream) {  // w / row scale as a half.
    bound.magnitude += half_ulp;
    bound.w_largest = x_type == Float::bf16 ? 0 : 0x1p-25;
    bound.of_norm += half_ulp;
  }
  if (y_type == Float::f16) {
    bound.of_result = 0x1p-11;
    bound.absolute = 0x1p-25;
  } else {
    bound.of_result = y_type == Float::bf16 ? 0x1p-8 : 0x1p-24;
  }
  bound.of_norm += bound.of_result;
  return bound;
}

Difference compare(const Compared& compared, const Reference& reference, const Bound& bound, bool poisoned) {
  const std::uint64_t elements = compared.m * static_cast<std::uint64_t>(compared.stride);
  // Some elements for each thread: what every thread saw is copied to the host.
  const std::uint64_t threads =
      std::clamp<std::uint64_t>(elements / 16, std::min<std::uint64_t>(elements + 1, 1024), 32768);
  DeviceArray<Part> parts(threads);
  const CompareElements arguments{compared,
                                  bound,
                                  poisoned,
                                  reference.rows,
                                  reference.exact.data(),
                                  reference.magnitude.data(),
                                  reference.x_largest.data(),
                                  reference.x_sum.data(),
                                  reference.w_sum.data(),
                                  reference.w_largest.data(),
                                  parts.data(),
                                  threads};
  require(launch(compare_elements, blocks_for(threads), dim3(kThreads), 0, nullptr, arguments), "comparing");
  require(cudaDeviceSynchronize(), "comparing");
  Difference difference;
  double error_squares = 0;
  double exact_squares = 0;
  for (const Part& part : parts.host()) {
    if (difference.wrong == 0) difference.first_wrong = part.first_wrong;
    difference.wrong += part.wrong;
    difference.touched += part.touched;
    difference.worst = std::max(difference.worst, part.worst);
    error_squares += part.error_squares;
    exact_squares += part.exact_squares;
  }
  difference.error_norm = exact_squares > 0 ? std::sqrt(error_squares / exact_squares) : 0;
  return difference;
}

}  // namespace cdna_cuda
