// The values of a tensor front to back, as exports write them.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "cdna/dtype.hpp"
#include "cdna/error.hpp"
#include "cdna/reader.hpp"

namespace cdna {

using TakeBytes = std::function<Result<void>(std::span<const std::byte>)>;

// Calls `take` with the row-major values in `dtype`, in pieces and in order; those of an exact tensor in its own dtype
// as they are stored. Requires: a dtype that Tensor::read_rows() takes. Memory: 4 MiB, or one row. Errors: those of
// Tensor::blocks(), Tensor::read_rows() and `take`; limit (a row over 256 MiB to be decoded).
Result<void> write_tensor_bytes(const Tensor& tensor, DType dtype, const TakeBytes& take);

}  // namespace cdna
