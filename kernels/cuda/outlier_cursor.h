// A warp's way along the outliers of a row of tiles: 32 of them at a time in the lanes' registers, put in place of what
// was decoded.
#pragma once

#include "device.h"
#include "linear.h"

namespace cdna_cuda {

template <Half half>
class OutlierCursor {
 public:
  CDNA_DEVICE OutlierCursor(const Weights& weights, std::uint32_t row_tile, unsigned lane)
      : weights_(weights), row_tile_(row_tile), lane_(lane) {
    if (weights.outlier_begin == nullptr || row_tile >= tiles_of_rows(weights.rows)) return;
    next_ = begin_of(row_tile_);
    load();
  }

  // Replaces elements of a, 16 columns wide, up to column_end; those of earlier columns have had their turn.
  CDNA_DEVICE void patch(std::uint32_t (&a)[4], std::uint32_t column_end) {
    while (next_place_ >> 4 < column_end) {
      replace(a, fragment_place(next_place_ % kTileRows, next_place_ >> 4), of_lane(value_, next_ % kLanes));
      ++next_;
      if (next_ % kLanes == 0) {
        load();
      } else {
        next_place_ = of_lane(place_, next_ % kLanes);
      }
    }
  }

 private:
  static constexpr std::uint32_t kNone = 0xFFFFFFFFU;  // Behind every column.

  static CDNA_DEVICE std::uint32_t of_lane(std::uint32_t word, unsigned lane) {
    return __shfl_sync(0xFFFFFFFFU, word, static_cast<int>(lane));
  }

  // The first outlier of a row of tiles; that of the one behind it ends it.
  CDNA_DEVICE std::uint32_t begin_of(std::uint32_t row_tile) const {
    return weights_.outlier_begin[row_tile * tiles_of_columns(weights_.cols)];
  }

  // Each lane gets one of the 32 around the next one, as it will stand in A: lane i the one whose number ends with i.
  CDNA_DEVICE void load() {
    const std::uint32_t index = next_ / kLanes * kLanes + lane_;
    place_ = kNone;
    value_ = 0;
    if (index >= next_ && index < begin_of(row_tile_ + 1)) {
      place_ = weights_.outlier_places[index];
      const float scale = weights_.row_scales == nullptr
                              ? 1.0F
                              : weights_.row_scales[row_tile_ * std::size_t{kTileRows} + place_ % kTileRows];
      value_ = narrow<half>(weights_.outlier_values[index] / scale);
    }
    next_place_ = of_lane(place_, next_ % kLanes);
  }

  CDNA_DEVICE void replace(std::uint32_t (&a)[4], const FragmentPlace& place, std::uint32_t value) const {
    const unsigned in = lane_ == place.lane ? place.half + 2 * (place.j / 2) : 4;
    const unsigned selector = place.j % 2 == 0 ? 0x3254U : 0x5410U;  // The low or the high half is the value's.
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) a[i] = in == i ? select_bytes(a[i], value, selector) : a[i];
  }

  const Weights& weights_;
  std::uint32_t row_tile_;
  unsigned lane_;
  std::uint32_t next_ = 0;            // Of all outliers.
  std::uint32_t next_place_ = kNone;  // Column << 4 | row % 16.
  std::uint32_t place_ = kNone;       // This lane's outlier,
  std::uint32_t value_ = 0;           // and its half, divided by the row scale.
};

}  // namespace cdna_cuda
