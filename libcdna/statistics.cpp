// Decibels for people: nothing here reaches a file.
#include "cdna/statistics.hpp"

#include <cmath>
#include <limits>

namespace cdna {
namespace {

// Error to signal; NaN where it is not known.
double ratio_of(const TensorStatistics& statistics) {
  if (std::isinf(statistics.sum_squares) || std::isinf(statistics.sum_squared_error))
    return std::numeric_limits<double>::quiet_NaN();
  return statistics.sum_squared_error == 0 ? 0 : statistics.sum_squared_error / statistics.sum_squares;
}

}  // namespace

double TensorStatistics::snr_db() const { return -10 * std::log10(ratio_of(*this)); }

double TensorStatistics::relative_error() const { return std::sqrt(ratio_of(*this)); }

}  // namespace cdna
