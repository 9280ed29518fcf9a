// What a file records about the error and the values of a tensor.
#pragma once

#include "cdna/error.hpp"
#include "cdna/statistics.hpp"
#include "libcdna/file.hpp"

namespace cdna {

// The sums of the item, and its statistics plane if this version can read it. Requires: a supported tensor.
Result<TensorStatistics> load_statistics(const File& file, std::uint32_t item);

}  // namespace cdna
