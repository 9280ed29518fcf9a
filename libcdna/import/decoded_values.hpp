// Model::read() of tensors that are codes: the planes of the tensor that was read last, and their values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>

#include "cdna/error.hpp"
#include "cdna/import.hpp"

namespace cdna {

// Whether codes of such a tensor can be stored: its rows, as writers make them of the shape, have few enough columns
// for Writer::add_encoded(). What does not fit is read as values. Requires: a number of elements below 2^64.
bool fits_codes(DType dtype, std::span<const std::uint64_t> shape);

// Fills `out` from byte `offset` of the row-major values that planes decode to (cdna::decode()), rounded to `dtype`:
// F16, BF16, F32 or F64. Requires: planes that Writer::add_encoded() takes for `cols`, or wider ones; the range lies
// within the values. Cost: these elements alone. Memory: 3 MiB. Throws std::bad_alloc.
void read_decoded(const EncodedPlanes& planes, DType dtype, std::uint64_t cols, std::uint64_t offset,
                  std::span<std::byte> out);

// Keeps what was loaded last, as values are read in pieces. Any thread; they wait while one loads.
class LastPlanes {
 public:
  using Load = std::function<Result<HeldPlanes>(std::size_t tensor)>;
  // The planes of `tensor`, by `load` unless they are those of the call before. Errors: those of `load`.
  Result<HeldPlanes> get(std::size_t tensor, const Load& load) const;

 private:
  mutable std::mutex mutex_;
  mutable std::optional<std::size_t> tensor_;
  mutable HeldPlanes planes_;
};

}  // namespace cdna
