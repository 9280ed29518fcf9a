// A layer for each boundary; within it the best place of the boundary before does not decrease with this one's.
#include "libcdna/encode/boundary_search.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "libcdna/encode/samples.hpp"

namespace cdna {
namespace {

constexpr int kSteps = 8;  // To each side.

// Where a boundary may stand, as numbers of samples, ascending.
using Places = std::vector<std::uint32_t>;

// What one entry for samples [begin, end) takes off the sum of their squares.
double gain_of(const Samples& samples, std::size_t begin, std::size_t end) {
  const double weight = samples.weight(begin, end);
  const double moment = samples.moment(begin, end);
  return weight > 0 ? moment * moment / weight : 0;
}

Places places_of(const Cells& cells, std::size_t boundary, double reach) {
  const auto at = static_cast<double>(cells.begin(boundary));
  const auto before = at - static_cast<double>(cells.begin(boundary - 1));
  const auto after = static_cast<double>(cells.end(boundary)) - at;
  Places places;
  for (int step = -kSteps; step <= kSteps; ++step) {
    const double place = at + (step < 0 ? before : after) * reach * step / kSteps;
    const auto number = static_cast<std::uint32_t>(place);
    if (places.empty() || places.back() < number) places.push_back(number);
  }
  return places;
}

// The best gains up to one boundary, for each of its places, and where the boundary before stands then.
struct Layer {
  std::vector<double> gains;
  std::vector<std::uint32_t> before;
};

class LayerSearch {
 public:
  LayerSearch(const Samples& samples, const Places& previous, const Layer& previous_layer, const Places& places)
      : samples_(samples), previous_(previous), previous_gains_(previous_layer.gains), places_(places) {}

  Layer run() {
    layer_.gains.resize(places_.size());
    layer_.before.resize(places_.size());
    fill(0, places_.size(), 0, previous_.size());
    return std::move(layer_);
  }

 private:
  // Of places [first, last), the boundary before being at one of [least, end).
  void fill(std::size_t first, std::size_t last, std::size_t least, std::size_t end) {
    if (first == last) return;
    const std::size_t middle = first + (last - first) / 2;
    double best = -std::numeric_limits<double>::infinity();
    std::size_t best_before = least;
    for (std::size_t i = least; i < end && previous_[i] <= places_[middle]; ++i) {
      const double gain = previous_gains_[i] + gain_of(samples_, previous_[i], places_[middle]);
      if (!(gain > best)) continue;
      best = gain;
      best_before = i;
    }
    layer_.gains[middle] = best;
    layer_.before[middle] = static_cast<std::uint32_t>(best_before);
    fill(first, middle, least, best_before + 1);
    fill(middle + 1, last, best_before, end);
  }

  const Samples& samples_;
  const Places& previous_;
  const std::vector<double>& previous_gains_;
  const Places& places_;
  Layer layer_;
};

// The best place of each boundary; the first and the last boundary have one place each.
std::vector<std::size_t> best_places(const Samples& samples, const std::vector<Places>& places) {
  std::vector<Layer> layers(places.size());
  layers[0] = {{0}, {0}};
  for (std::size_t i = 1; i < places.size(); ++i)
    layers[i] = LayerSearch(samples, places[i - 1], layers[i - 1], places[i]).run();
  std::vector<std::size_t> best(places.size());
  std::size_t number = 0;
  for (std::size_t i = places.size(); i-- > 0;) {
    best[i] = places[i][number];
    number = layers[i].before[number];
  }
  return best;
}

}  // namespace

double centroid_of(const Samples& samples, std::size_t begin, std::size_t end) {
  if (begin == end) return samples.value(std::min(begin, samples.size() - 1));
  const double weight = samples.weight(begin, end);
  if (!(weight > 0)) return samples.value(begin);
  // Where others weigh more by far, what is left of these in the sums is rounding: it must not leave the cell.
  return std::clamp(samples.moment(begin, end) / weight, samples.value(begin), samples.value(end - 1));
}

void move_boundaries(const Samples& samples, double reach, std::vector<double>& entries) {
  Cells cells(samples.size(), entries.size());
  cells.follow(samples, entries);
  std::vector<Places> places{{0}};
  for (std::size_t i = 1; i < entries.size(); ++i) places.push_back(places_of(cells, i, reach));
  places.push_back({static_cast<std::uint32_t>(samples.size())});
  const std::vector<std::size_t> edges = best_places(samples, places);
  for (std::size_t i = 0; i < entries.size(); ++i) entries[i] = centroid_of(samples, edges[i], edges[i + 1]);
}

}  // namespace cdna
