// Filling of synthetic.h's matrices and activations.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <tuple>

#include "../device.h"
#include "../launch.h"
#include "synthetic.h"

namespace cdna_cuda {
namespace {

constexpr unsigned kThreads = 256;

struct FillTiles {
  Recipe recipe;
  std::uint32_t* tiles;
  std::uint64_t count;  // Of halves of lanes.
};

// A thread makes a half of a lane of a tile.
template <unsigned bits>
__global__ void fill_tiles(const FillTiles arguments) {
  const std::uint64_t index = std::uint64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= arguments.count) return;
  const auto half = static_cast<unsigned>(index % 2);
  const auto lane = static_cast<unsigned>(index / 2 % kLanes);
  const std::uint64_t tile = index / (2 * kLanes);
  const std::uint64_t column_tiles = tiles_of_columns(arguments.recipe.cols);
  std::uint32_t codes[4 * kSteps];
#pragma unroll
  for (unsigned i = 0; i < 4 * kSteps; ++i) {
    const FragmentPlace place{lane, half, i / 4, i % 4};
    const auto row = static_cast<std::uint32_t>(tile / column_tiles * kTileRows + row_of(place));
    const auto column = static_cast<std::uint32_t>(tile % column_tiles * kTileColumns + column_of(place));
    const bool inside = row < arguments.recipe.rows && column < arguments.recipe.cols;
    codes[i] = inside ? code_at(arguments.recipe, row, column) : 0;
  }
  std::uint32_t words[bits];
  pack_words(bits, codes, words);
  std::uint32_t* const out = arguments.tiles + tile * (tile_bytes(bits) / 4);
#pragma unroll
  for (unsigned w = 0; w < bits; ++w) out[word_offset(bits, lane, word_place(bits, half, w)) / 4] = words[w];
}

struct FillScales {
  Recipe recipe;
  float* row_scales;
  void* group_scales;
  std::uint64_t count;  // Of rows with those of the padding.
};

// A thread makes the scales of a row.
__global__ void fill_scales(const FillScales arguments) {
  const Recipe& recipe = arguments.recipe;
  const std::uint64_t index = std::uint64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= arguments.count) return;
  const auto row = static_cast<std::uint32_t>(index);
  if (recipe.preset.row_scales) arguments.row_scales[row] = row < recipe.rows ? row_scale_at(recipe, row) : 0.0F;
  if (recipe.preset.group == 0) return;
  const std::uint32_t per_tile = kTileColumns / recipe.preset.group;
  const std::uint64_t column_tiles = tiles_of_columns(recipe.cols);
  for (std::uint32_t g = 0; g < column_tiles * per_tile; ++g) {
    const std::uint64_t tile = row / kTileRows * column_tiles + g / per_tile;
    const std::uint64_t place = (tile * kTileRows + row % kTileRows) * per_tile + g % per_tile;
    const bool inside = row < recipe.rows && g * recipe.preset.group < recipe.cols;
    if (recipe.preset.group_scale_type == ScaleType::u8) {
      static_cast<std::uint8_t*>(arguments.group_scales)[place] =
          static_cast<std::uint8_t>(inside ? group_code_at(recipe, row, g) : 0);
    } else {
      static_cast<float*>(arguments.group_scales)[place] = inside ? group_scale_at(recipe, row, g) : 0.0F;
    }
  }
}

struct FillActivations {
  void* x;
  Float type;
  std::uint32_t cols;
  std::int64_t stride;
  std::uint64_t seed;
  std::uint64_t count;
};

__global__ void fill_activations(const FillActivations arguments) {
  const std::uint64_t index = std::uint64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= arguments.count) return;
  const auto row = static_cast<std::uint32_t>(index / arguments.cols);
  const auto column = static_cast<std::uint32_t>(index % arguments.cols);
  const std::uint64_t place = row * static_cast<std::uint64_t>(arguments.stride) + column;
  union {
    float f;
    std::uint32_t u;
  } value{activation_at(arguments.type, arguments.seed, row, column)};
  if (arguments.type == Float::f32) {
    static_cast<float*>(arguments.x)[place] = value.f;
    return;
  }
  // Exact in either half type, and normal in f16.
  const std::uint32_t sign = value.u >> 31 << 15;
  const std::uint32_t f16 = value.f == 0.0F ? 0 : sign | ((value.u & 0x7FFFFFFFU) - 0x38000000U) >> 13;
  const std::uint32_t bits = arguments.type == Float::f16 ? f16 : value.u >> 16;
  static_cast<std::uint16_t*>(arguments.x)[place] = static_cast<std::uint16_t>(bits);
}

dim3 blocks_for(std::uint64_t threads) { return dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)); }

template <class Arguments>
void launch_over(void (*kernel)(const Arguments), const Arguments& arguments, const char* what) {
  if (arguments.count == 0) return;
  require(launch(kernel, blocks_for(arguments.count), dim3(kThreads), 0, nullptr, arguments), what);
  require(cudaDeviceSynchronize(), what);
}

// f64 to binary16: to nearest, ties to even; |number| < 65504.
std::uint16_t round_f16(double number) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(number) ? 0x8000 : 0);
  int exponent = 0;
  std::frexp(number, &exponent);  // number = 0.5 .. 1 x 2^exponent
  const int unit = std::max(exponent, -13) - 11;
  const auto units = static_cast<unsigned>(std::nearbyint(std::ldexp(std::abs(number), -unit)));
  // units below 2^10 are subnormal; 2^11 carries into the exponent by itself.
  const auto biased = static_cast<unsigned>(std::max(exponent, -13) + 14 - 1);
  return static_cast<std::uint16_t>(sign | (biased * 1024 + units));
}

// Where a standard normal variable is below with probability p (Abramowitz and Stegun 26.2.23, within 4.5e-4).
double normal_quantile(double p) {
  const double t = std::sqrt(-2 * std::log(std::min(p, 1 - p)));
  const double x =
      t - (2.515517 + 0.802853 * t + 0.010328 * t * t) / (1 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t);
  return p < 0.5 ? -x : x;
}

}  // namespace

const std::vector<Preset>& presets() {
  static const std::vector<Preset> all = {
      // name, bits, curve, group scales, group, row scales, outliers
      {"free256", 8, Curve::none, ScaleType::none, 0, true, 512, false},
      {"cb8g64", 8, Curve::none, ScaleType::u8, 64, true, 0, false},
      {"cb6g64", 6, Curve::none, ScaleType::u8, 64, true, 0, false},
      {"cb5g32", 5, Curve::none, ScaleType::u8, 32, true, 0, false},
      {"cb4g32", 4, Curve::none, ScaleType::u8, 32, true, 0, false},
      {"pwl16", 8, Curve::pwl, ScaleType::none, 0, true, 512, false},
      {"affine", 8, Curve::affine, ScaleType::none, 0, true, 0, false},
      {"k64", 6, Curve::none, ScaleType::none, 0, true, 512, false},
      {"k32", 5, Curve::none, ScaleType::none, 0, true, 512, false},
      {"k16", 4, Curve::none, ScaleType::none, 0, true, 8, false},
      {"bare", 8, Curve::none, ScaleType::none, 0, false, 0, false},
      {"cb8g128-f32", 8, Curve::none, ScaleType::f32, 128, false, 512, false},
      {"cb4g64-f32", 4, Curve::none, ScaleType::f32, 64, true, 64, false},
      {"pwl16-6g32", 6, Curve::pwl, ScaleType::u8, 32, false, 0, false},
      {"affine4g32", 4, Curve::affine, ScaleType::f32, 32, true, 0, false},
      {"huge-outliers", 8, Curve::none, ScaleType::none, 0, true, 512, true},
  };
  return all;
}

const Preset& preset_named(const std::string& name) {
  for (const Preset& preset : presets()) {
    if (name == preset.name) return preset;
  }
  throw std::runtime_error("no preset is named " + name);
}

Matrix::Matrix(const Preset& preset, std::uint32_t rows, std::uint32_t cols, std::uint64_t seed)
    : preset_(preset), rows_(rows), cols_(cols), seed_(seed) {
  make_tables();
  const std::uint64_t count = tiles_of_rows(rows) * tiles_of_columns(cols);
  tiles_ = DeviceArray<std::uint32_t>(count * tile_bytes(preset.bits) / 4);
  const FillTiles fill{recipe(), tiles_.data(), count * kLanes * 2};
  launch_over(preset.bits == 4   ? fill_tiles<4>
              : preset.bits == 5 ? fill_tiles<5>
              : preset.bits == 6 ? fill_tiles<6>
                                 : fill_tiles<8>,
              fill, "filling tiles");
  const std::uint64_t padded_rows = kTileRows * tiles_of_rows(rows);
  if (preset.row_scales) row_scales_ = DeviceArray<float>(padded_rows);
  if (preset.group != 0) {
    const std::uint64_t scales = padded_rows * tiles_of_columns(cols) * (kTileColumns / preset.group);
    group_scales_ = DeviceArray<unsigned char>(scales * (preset.group_scale_type == ScaleType::u8 ? 1 : 4));
  }
  launch_over(fill_scales, FillScales{recipe(), row_scales_.data(), group_scales_.data(), padded_rows},
              "filling scales");
  if (preset.outlier_columns != 0) make_outliers();
}

void Matrix::make_tables() {
  const unsigned count = 1U << preset_.bits;
  const unsigned per_line = preset_.curve == Curve::affine ? count : count / 16;
  for (unsigned c = 0; c < count; ++c) {
    const double entry = normal_quantile((c + 0.5) / count);
    if (preset_.curve == Curve::none) {
      host_codebook_.push_back(round_f16(entry));
      continue;
    }
    if (c % per_line == 0) {
      const double end = normal_quantile((c + per_line - 0.5) / count);
      host_lines_.push_back(round_f16(entry));
      host_lines_.push_back(round_f16((end - entry) / (per_line - 1)));
    }
    const std::uint16_t* const line = host_lines_.data() + c / per_line * 2;
    host_codebook_.push_back(round_f16(double{widen_f16(line[0])} + c % per_line * double{widen_f16(line[1])}));
  }
  if (preset_.group_scale_type == ScaleType::u8) {
    for (unsigned i = 0; i < 256; ++i) host_scale_table_.push_back(static_cast<float>(std::exp2(i / 64.0 - 2)));
  }
  codebook_ = DeviceArray<std::uint16_t>(host_codebook_);
  lines_ = DeviceArray<std::uint16_t>(host_lines_);
  scale_table_ = DeviceArray<float>(host_scale_table_);
}

void Matrix::make_outliers() {
  struct Outlier {
    std::uint64_t tile;
    std::uint32_t place;
    float value;
    float delta;
  };
  const Recipe recipe = host_recipe();
  std::vector<Outlier> outliers;
  const std::uint32_t run = preset_.outlier_columns;
  for (std::uint32_t row = 0; row < rows_; ++row) {
    for (std::uint32_t begin = 0; begin < cols_; begin += run) {
      // Where is_outlier() puts the run's.
      const std::uint64_t bits = random_bits(seed_ + 3, row, begin / run);
      const auto column = static_cast<std::uint32_t>(begin + bits % 0x7FFFFFFFU % run);
      if (column >= cols_ || !is_outlier(recipe, row, column)) continue;
      const float value = outlier_at(recipe, row, column);
      outliers.push_back({row / kTileRows * tiles_of_columns(cols_) + column / kTileColumns,
                          column << 4 | row % kTileRows, value, value - decoded_at(recipe, row, column)});
    }
  }
  if (outliers.empty()) return;
  std::sort(outliers.begin(), outliers.end(),
            [](const Outlier& a, const Outlier& b) { return std::tie(a.tile, a.place) < std::tie(b.tile, b.place); });
  std::vector<std::uint32_t> begins(tiles_of_rows(rows_) * tiles_of_columns(cols_) + 1), places;
  std::vector<float> values, deltas;
  for (const Outlier& outlier : outliers) {
    ++begins[outlier.tile + 1];
    places.push_back(outlier.place);
    values.push_back(outlier.value);
    deltas.push_back(outlier.delta);
  }
  for (std::size_t i = 1; i < begins.size(); ++i) begins[i] += begins[i - 1];
  outlier_begin_ = DeviceArray<std::uint32_t>(begins);
  outlier_places_ = DeviceArray<std::uint32_t>(places);
  outlier_values_ = DeviceArray<float>(values);
  outlier_deltas_ = DeviceArray<float>(deltas);
}

Recipe Matrix::recipe() const { return {preset_, rows_, cols_, seed_, codebook_.data(), scale_table_.data()}; }

Recipe Matrix::host_recipe() const {
  return {preset_, rows_, cols_, seed_, host_codebook_.data(), host_scale_table_.data()};
}

Weights Matrix::weights() const {
  Weights result;
  result.rows = rows_;
  result.cols = cols_;
  result.bits = static_cast<std::uint8_t>(preset_.bits);
  result.curve = preset_.curve;
  result.group_scale_type = preset_.group_scale_type;
  result.group = static_cast<std::uint16_t>(preset_.group);
  result.outliers_fit_f16 = !preset_.huge_outliers;
  result.tiles = tiles_.data();
  result.codebook = codebook_.data();
  result.lines = lines_.data();
  result.row_scales = row_scales_.data();
  result.group_scales = group_scales_.data();
  result.scale_table = scale_table_.data();
  result.outlier_begin = outlier_begin_.data();
  result.outlier_places = outlier_places_.data();
  result.outlier_values = outlier_values_.data();
  result.outlier_deltas = outlier_deltas_.data();
  return result;
}

std::size_t Matrix::bytes() const {
  // Of outliers a product reads either the value or the delta.
  return tiles_.bytes() + codebook_.bytes() + row_scales_.bytes() + group_scales_.bytes() + scale_table_.bytes() +
         outlier_begin_.bytes() + outlier_places_.bytes() + outlier_deltas_.bytes();
}

Activations::Activations(Float type, std::uint32_t m, std::uint32_t cols, std::uint32_t gap, std::uint64_t seed)
    : type_(type),
      m_(m),
      stride_(std::int64_t{cols} + gap),
      offset_(gap),
      seed_(seed),
      bytes_((offset_ + std::size_t{m} * static_cast<std::size_t>(stride_)) * size_of(type)) {
  bytes_.fill(0xFF);
  launch_over(
      fill_activations,
      FillActivations{bytes_.data() + offset_ * size_of(type), type, cols, stride_, seed, std::uint64_t{m} * cols},
      "filling activations");
}

}  // namespace cdna_cuda
