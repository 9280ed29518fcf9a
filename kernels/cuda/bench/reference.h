// Products in float64 from plain codes, and how far those of linear.h may be from them.
#pragma once

#include "synthetic.h"

namespace cdna_cuda {

// x W^T for some rows of W, and what bounds of errors are multiples of. All on the device.
struct Reference {
  std::uint32_t m = 0;
  std::uint32_t rows = 0;
  std::uint32_t cols = 0;
  DeviceArray<double> exact;      // [m, rows]
  DeviceArray<double> magnitude;  // [m, rows]: sum of |x| (|w|, of outliers |decoded| + |value - decoded|)
  DeviceArray<double> x_largest;  // [m]
  DeviceArray<double> x_sum;      // [m]: of |x|
  DeviceArray<double> w_sum;      // [rows]: of |w|
  DeviceArray<double> w_largest;  // [rows]: of |w|
};

// Of activations `type, seed`, for rows [0, rows) of the recipe's matrix, whose pointers are the device's. Nothing of
// layout.h, of tiles, or of any product kernel is used.
Reference make_reference(const Recipe& recipe, Float type, std::uint64_t seed, std::uint32_t m, std::uint32_t rows);

// The same for one element, on the host. `recipe` has the host's pointers.
struct Sum {
  double exact;
  double magnitude;
};
Sum host_product(const Recipe& recipe, Float type, std::uint64_t seed, std::uint32_t i, std::uint32_t row);

// Coefficients of the errors that linear.h allows.
struct Bound {
  double magnitude;  // times Reference::magnitude
  double x_largest;  // times the largest |x| of a row and sum |w|
  double w_largest;  // times the largest |w| of a row and sum |x|
  double of_result;  // times |y|
  double absolute;
  double of_norm;  // What is expected of |y - exact| / |exact| over all of y (no bound: random errors).
};
Bound bound_of(Loop loop, Float x_type, Float y_type, std::uint32_t cols);

// y [m, stride], the product in columns [column, column + rows), everything else 0xFF.
struct Compared {
  const void* y;
  Float type;
  std::int64_t stride;
  std::uint64_t column;
  std::uint32_t m;
  std::uint32_t rows;  // At most the reference's.
  const void* bias;    // [rows] of type y, or null.
};
struct Difference {
  std::uint64_t wrong = 0;        // Elements outside the bound, NaN among them.
  std::uint64_t first_wrong = 0;  // i * rows + r of one of them.
  std::uint64_t touched = 0;      // Bytes that no product may write and that were.
  double worst = 0;               // The largest error as part of its bound.
  double error_norm = 0;          // |y - exact| / |exact|
};
// poisoned: columns outside [column, column + rows) were 0xFF before, and are looked at.
Difference compare(const Compared& compared, const Reference& reference, const Bound& bound, bool poisoned);

}  // namespace cdna_cuda
