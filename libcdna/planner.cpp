// Bit allocation over convex hulls.
#include "cdna/planner.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <string>
#include <tuple>

#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

// A point that some price makes the best one, and what the step to it costs.
struct HullPoint {
  std::size_t point = 0;
  std::uint64_t bytes = 0;
  double error = 0;  // Weighted.
  double price = 0;  // Error saved per byte since the hull point before; unused in the first.
};

double price_between(const HullPoint& from, const HullPoint& to) {
  return (from.error - to.error) / static_cast<double>(to.bytes - from.bytes);
}

// From the smallest point to the one of least error; prices fall strictly, as computed, so that a sort by price keeps
// the steps of a tensor in order.
std::vector<HullPoint> hull_of(const AllocationTensor& tensor) {
  std::vector<HullPoint> points;
  for (std::size_t i = 0; i < tensor.points.size(); ++i) {
    const OperatingPoint& point = tensor.points[i];
    assert(std::isfinite(point.relative_error) && point.relative_error >= 0);
    points.push_back({i, point.stored_bytes, tensor.weight * point.relative_error, 0});
  }
  std::sort(points.begin(), points.end(), [](const HullPoint& a, const HullPoint& b) {
    return std::tuple(a.bytes, a.error, a.point) < std::tuple(b.bytes, b.error, b.point);
  });
  std::vector<HullPoint> hull;
  for (HullPoint& point : points) {
    if (!hull.empty() && !(point.error < hull.back().error)) continue;
    while (hull.size() > 1 && price_between(hull.back(), point) >= hull.back().price) hull.pop_back();
    if (!hull.empty()) point.price = price_between(hull.back(), point);
    hull.push_back(point);
  }
  return hull;
}

struct Step {
  std::size_t tensor = 0;
  std::size_t to = 0;  // Index into the tensor's hull.
  double price = 0;
  std::uint64_t bytes = 0;
};

std::vector<Step> steps_by_price(const std::vector<std::vector<HullPoint>>& hulls) {
  std::vector<Step> steps;
  for (std::size_t tensor = 0; tensor < hulls.size(); ++tensor) {
    const std::vector<HullPoint>& hull = hulls[tensor];
    for (std::size_t to = 1; to < hull.size(); ++to)
      steps.push_back({tensor, to, hull[to].price, hull[to].bytes - hull[to - 1].bytes});
  }
  std::sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) {
    return std::tuple(-a.price, a.tensor, a.to) < std::tuple(-b.price, b.tensor, b.to);
  });
  return steps;
}

Allocation allocation_of(const std::vector<std::vector<HullPoint>>& hulls, const std::vector<std::size_t>& at) {
  Allocation allocation;
  for (std::size_t tensor = 0; tensor < hulls.size(); ++tensor) {
    const std::vector<HullPoint>& hull = hulls[tensor];
    const HullPoint& chosen = hull[at[tensor]];
    const double wanted = at[tensor] + 1 < hull.size() ? hull[at[tensor] + 1].price : 0;
    allocation.tensors.push_back({chosen.point, chosen.price, wanted});
    allocation.stored_bytes += chosen.bytes;
    allocation.weighted_error += chosen.error;
  }
  return allocation;
}

std::vector<std::vector<HullPoint>> hulls_of(std::span<const AllocationTensor> tensors) {
  std::vector<std::vector<HullPoint>> hulls;
  hulls.reserve(tensors.size());
  for (const AllocationTensor& tensor : tensors) {
    assert(!tensor.points.empty());
    hulls.push_back(hull_of(tensor));
  }
  return hulls;
}

}  // namespace

AllocationRange allocation_range(std::span<const AllocationTensor> tensors) {
  AllocationRange range;
  for (const AllocationTensor& tensor : tensors) {
    const std::vector<HullPoint> hull = hull_of(tensor);
    range.bytes_min += hull.front().bytes;
    range.bytes_max += hull.back().bytes;
  }
  return range;
}

Result<Allocation> allocate(std::span<const AllocationTensor> tensors, std::uint64_t budget_bytes) {
  return no_throw([&]() -> Result<Allocation> {
    const std::vector<std::vector<HullPoint>> hulls = hulls_of(tensors);
    std::uint64_t bytes = 0;
    for (const std::vector<HullPoint>& hull : hulls) bytes += hull.front().bytes;
    CDNA_CHECK(bytes <= budget_bytes, Code::bad_argument, "",
               "the least possible is " + std::to_string(bytes) + " bytes, the budget " + std::to_string(budget_bytes));
    std::vector<std::size_t> at(hulls.size());  // Place of each tensor on its hull.
    double first_missed = 0;
    for (const Step& step : steps_by_price(hulls)) {
      const bool reached = at[step.tensor] + 1 == step.to;  // Not where an earlier step of the tensor did not fit.
      if (reached && step.bytes <= budget_bytes - bytes) {
        bytes += step.bytes;
        at[step.tensor] = step.to;
      } else if (first_missed == 0) {
        first_missed = step.price;
      }
    }
    Allocation allocation = allocation_of(hulls, at);
    allocation.price = first_missed;
    return allocation;
  });
}

}  // namespace cdna
