// What Writer::add_encoded() asks of planes that somebody else made.
#pragma once

#include "cdna/encode.hpp"
#include "libcdna/format/geometry.hpp"

namespace cdna {

// Errors: bad_argument, with what is wrong and where. Requires: a float dtype, rows and columns >= 1, cols <= 2^24.
Result<void> check_encoded_planes(const EncodedPlanes& planes, DType dtype, const MatrixView& matrix);

// Of the outliers of a tensor of that dtype.
inline DType outlier_dtype_of(const EncodedPlanes& planes, DType dtype) {
  return planes.outlier_dtype == DType::none ? dtype : planes.outlier_dtype;
}

// Whether every entry is a binary16 number, bit for bit.
bool are_halves(std::span<const float> entries);

}  // namespace cdna
