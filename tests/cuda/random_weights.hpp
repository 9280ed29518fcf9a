// Random matrices in codes as linear.h takes them, and what they hold as float64: for tests and the bench.
//
// All memory is the host's. A test on a GPU copies what weights() points to; sizes are those of the vectors.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../../kernels/cuda/decode.h"
#include "../../kernels/cuda/linear.h"
#include "../random.hpp"
#include "../small_floats.hpp"

namespace cdna::test {

struct RandomWeightsOptions {
  std::uint32_t rows = 0;
  std::uint32_t cols = 0;
  unsigned bits = 8;  // 4, 5, 6 or 8
  cdna_cuda::Curve curve = cdna_cuda::Curve::none;
  bool row_scales = false;
  cdna_cuda::ScaleType group_scale_type = cdna_cuda::ScaleType::none;
  unsigned group = 0;       // 32, 64 or 128 with group scales.
  double outlier_part = 0;  // Of all elements. Every tile's first and last element are outliers too, if it is not 0.
};

// A matrix with every part that the options ask for, as vectors in the device's layout, and as plain numbers.
struct RandomWeights {
  RandomWeights(const RandomWeightsOptions& options, std::uint64_t seed);

  // A view of the vectors: the object outlives it and does not move.
  cdna_cuda::Weights weights() const;

  std::uint64_t row_tiles() const { return cdna_cuda::tiles_of_rows(options.rows); }
  std::uint64_t column_tiles() const { return cdna_cuda::tiles_of_columns(options.cols); }
  std::uint32_t code(std::uint32_t row, std::uint32_t column) const {
    return codes[std::size_t{row} * options.cols + column];
  }

  RandomWeightsOptions options;

  // The device's.
  std::vector<std::byte> tiles;
  std::vector<std::uint16_t> codebook;
  std::vector<std::uint16_t> lines;
  std::vector<float> row_scales;
  std::vector<std::byte> group_scales;
  std::vector<float> scale_table;
  std::vector<std::uint32_t> outlier_begin;
  std::vector<std::uint32_t> outlier_places;
  std::vector<float> outlier_values;
  std::vector<float> outlier_deltas;

  // Plain, [rows, cols].
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;    // RN(group scale * row scale), or the one that there is, or 1.
  std::vector<double> decoded;  // RN(entry * scale): what the code stands for.
  std::vector<double> values;   // decoded, but for outliers their values: W.

 private:
  void make_codebook(Random* random);
  void make_codes(Random* random);
  void make_scales(Random* random);
  void make_outliers(Random* random);
  void pack_tile(std::uint64_t row_tile, std::uint64_t column_tile);
};

// x W^T in float64, and what bounds of errors are multiples of.
struct Product {
  std::vector<double> exact;      // [m, rows]
  std::vector<double> magnitude;  // sum of |x| (|w|, and where an outlier is also |decoded|)
};
// x: [m, cols], dense.
Product product(const RandomWeights& weights, const std::vector<double>& x, std::uint32_t m);

inline RandomWeights::RandomWeights(const RandomWeightsOptions& given, std::uint64_t seed) : options(given) {
  Random random(seed);
  make_codebook(&random);
  make_codes(&random);
  make_scales(&random);
  const std::size_t count = codes.size();
  decoded.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    decoded[i] = static_cast<float>(value_of_f16(codebook[codes[i]]) * scales[i]);
  }
  values = decoded;
  if (options.outlier_part > 0) make_outliers(&random);
}

// Ascending, as files have them, though no kernel relies on it; about -2 .. 2. With a curve, what its lines give.
inline void RandomWeights::make_codebook(Random* random) {
  const std::size_t count = std::size_t{1} << options.bits;
  codebook.resize(count);
  if (options.curve == cdna_cuda::Curve::none) {
    std::vector<float> entries = random->weights(count);
    std::sort(entries.begin(), entries.end());
    for (std::size_t i = 0; i < count; ++i) codebook[i] = f16_of(entries[i]);
    return;
  }
  const bool affine = options.curve == cdna_cuda::Curve::affine;
  const std::size_t line_count = affine ? 1 : 16;
  const std::size_t line_length = count / line_count;
  double base = -2;
  for (std::size_t h = 0; h < line_count; ++h) {
    const double length = affine ? 4 : 0.125 + static_cast<double>(random->below(1024)) / 4096;
    lines.push_back(f16_of(base));
    lines.push_back(f16_of(length / static_cast<double>(line_length)));
    for (std::size_t l = 0; l < line_length; ++l) {
      codebook[h * line_length + l] =
          f16_of(value_of_f16(lines[2 * h]) + static_cast<double>(l) * value_of_f16(lines[2 * h + 1]));
    }
    base += length;
  }
}

inline void RandomWeights::make_codes(Random* random) {
  codes.resize(std::size_t{options.rows} * options.cols);
  for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(random->below(std::uint64_t{1} << options.bits));
  tiles.resize(row_tiles() * column_tiles() * cdna_cuda::tile_bytes(options.bits));
  for (std::uint64_t i = 0; i < row_tiles(); ++i) {
    for (std::uint64_t j = 0; j < column_tiles(); ++j) pack_tile(i, j);
  }
}

inline void RandomWeights::pack_tile(std::uint64_t row_tile, std::uint64_t column_tile) {
  using namespace cdna_cuda;
  std::byte* const tile = tiles.data() + (row_tile * column_tiles() + column_tile) * tile_bytes(options.bits);
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    for (unsigned half = 0; half < 2; ++half) {
      std::uint32_t fragment[4 * kSteps];
      for (unsigned i = 0; i < 4 * kSteps; ++i) {
        const FragmentPlace place{lane, half, i / 4, i % 4};
        const std::uint64_t row = kTileRows * row_tile + row_of(place);
        const std::uint64_t column = kTileColumns * column_tile + column_of(place);
        const bool inside = row < options.rows && column < options.cols;
        fragment[i] = inside ? code(static_cast<std::uint32_t>(row), static_cast<std::uint32_t>(column)) : 0;
      }
      std::uint32_t words[8];
      pack_words(options.bits, fragment, words);
      for (unsigned w = 0; w < options.bits; ++w) {
        const std::size_t offset = word_offset(options.bits, lane, word_place(options.bits, half, w));
        for (unsigned b = 0; b < 4; ++b) tile[offset + b] = static_cast<std::byte>(words[w] >> 8 * b & 0xFFU);
      }
    }
  }
}

inline void RandomWeights::make_scales(Random* random) {
  using namespace cdna_cuda;
  // 2^-3 .. 2, never 0.
  const auto scale = [random] {
    return static_cast<float>(0.125 + static_cast<double>(random->next() >> 40) * 0x1p-23);
  };
  scales.assign(codes.size(), 1.0F);
  if (options.row_scales) {
    row_scales.assign(kTileRows * row_tiles(), 0.0F);
    for (std::uint32_t r = 0; r < options.rows; ++r) row_scales[r] = scale();
  }
  const bool u8 = options.group_scale_type == ScaleType::u8;
  if (u8) {
    scale_table.resize(256);
    for (float& entry : scale_table) entry = scale();
  }
  const unsigned groups = options.group == 0 ? 0 : kTileColumns / options.group;  // Of a tile's row.
  if (options.group_scale_type != ScaleType::none) {
    group_scales.resize(row_tiles() * column_tiles() * kTileRows * groups * (u8 ? 1 : 4));
  }
  for (std::uint32_t r = 0; r < options.rows; ++r) {
    const float row_scale = options.row_scales ? row_scales[r] : 1.0F;
    float group_scale = 1.0F;
    for (std::uint32_t k = 0; k < options.cols; ++k) {
      if (groups != 0 && k % options.group == 0) {
        const std::uint64_t tile = r / kTileRows * column_tiles() + k / kTileColumns;
        const std::size_t place = (tile * kTileRows + r % kTileRows) * groups + k % kTileColumns / options.group;
        if (u8) {
          const std::uint64_t number = random->below(256);
          group_scales[place] = static_cast<std::byte>(number);
          group_scale = scale_table[number];
        } else {
          group_scale = scale();
          std::memcpy(group_scales.data() + 4 * place, &group_scale, 4);
        }
      }
      scales[std::size_t{r} * options.cols + k] = group_scale * row_scale;
    }
  }
}

inline void RandomWeights::make_outliers(Random* random) {
  using namespace cdna_cuda;
  outlier_begin.push_back(0);
  const auto chance = static_cast<std::uint64_t>(options.outlier_part * 0x1p32);
  for (std::uint64_t tile = 0; tile < row_tiles() * column_tiles(); ++tile) {
    const std::uint64_t row_begin = tile / column_tiles() * kTileRows;
    const std::uint64_t column_begin = tile % column_tiles() * kTileColumns;
    const std::uint64_t row_end = std::min<std::uint64_t>(options.rows, row_begin + kTileRows);
    const std::uint64_t column_end = std::min<std::uint64_t>(options.cols, column_begin + kTileColumns);
    for (std::uint64_t k = column_begin; k < column_end; ++k) {
      for (std::uint64_t r = row_begin; r < row_end; ++r) {
        const bool corner = (k == column_begin && r == row_begin) || (k + 1 == column_end && r + 1 == row_end);
        if (!corner && random->next() >> 32 >= chance) continue;
        const float value = 8 * random->weights(1)[0];
        const std::size_t place = r * options.cols + k;
        outlier_places.push_back(static_cast<std::uint32_t>(k << 4 | r % kTileRows));
        outlier_values.push_back(value);
        outlier_deltas.push_back(static_cast<float>(value - decoded[place]));
        values[place] = value;
      }
    }
    outlier_begin.push_back(static_cast<std::uint32_t>(outlier_places.size()));
  }
}

inline cdna_cuda::Weights RandomWeights::weights() const {
  const auto pointer = [](const auto& vector) { return vector.empty() ? nullptr : vector.data(); };
  cdna_cuda::Weights view;
  view.rows = options.rows;
  view.cols = options.cols;
  view.bits = static_cast<std::uint8_t>(options.bits);
  view.curve = options.curve;
  view.group_scale_type = options.group_scale_type;
  view.group = static_cast<std::uint16_t>(options.group);
  view.tiles = pointer(tiles);
  view.codebook = pointer(codebook);
  view.lines = pointer(lines);
  view.row_scales = pointer(row_scales);
  view.group_scales = pointer(group_scales);
  view.scale_table = pointer(scale_table);
  view.outlier_begin = pointer(outlier_begin);
  view.outlier_places = pointer(outlier_places);
  view.outlier_values = pointer(outlier_values);
  view.outlier_deltas = pointer(outlier_deltas);
  return view;
}

inline Product product(const RandomWeights& weights, const std::vector<double>& x, std::uint32_t m) {
  const std::size_t rows = weights.options.rows;
  const std::size_t cols = weights.options.cols;
  Product result{std::vector<double>(m * rows), std::vector<double>(m * rows)};
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t r = 0; r < rows; ++r) {
      double sum = 0;
      double magnitude = 0;
      for (std::size_t k = 0; k < cols; ++k) {
        const double w = weights.values[r * cols + k];
        const double code = weights.decoded[r * cols + k];
        sum += x[i * cols + k] * w;
        magnitude += std::abs(x[i * cols + k]) * (std::abs(w) + (w == code ? 0 : std::abs(code)));
      }
      result.exact[i * rows + r] = sum;
      result.magnitude[i * rows + r] = magnitude;
    }
  }
  return result;
}

}  // namespace cdna::test
