// Matrices in codes and activations whose every element is a function of its place, made on the device.
//
// Nothing plain is kept: a reference asks for any element, on the device or on the host, however large the matrix is.
#pragma once

#include <string>
#include <vector>

#include "../decode.h"
#include "../linear.h"
#include "device_array.h"

namespace cdna_cuda {

// What a tensor is stored as.
struct Preset {
  const char* name;
  unsigned bits;  // On the device.
  Curve curve;
  ScaleType group_scale_type;
  unsigned group;
  bool row_scales;
  unsigned outlier_columns;  // A row has an outlier in every other run of so many columns; 0: none.
  bool huge_outliers;        // Above what f16 holds, as multiples of the row scale.
};

// The presets of the format, and what else the kernels take.
const std::vector<Preset>& presets();
const Preset& preset_named(const std::string& name);

// All that elements follow from. The pointers are the host's or the device's, as whoever asks.
struct Recipe {
  Preset preset;
  std::uint32_t rows;
  std::uint32_t cols;
  std::uint64_t seed;
  const std::uint16_t* codebook;
  const float* scale_table;
};

// Uniform bits for a place (splitmix64: Steele, Lea, Flood, 2014).
CDNA_HD std::uint64_t random_bits(std::uint64_t seed, std::uint64_t a, std::uint64_t b) {
  std::uint64_t z = (seed ^ b << 32) * 0x9E3779B97F4A7C15ULL + (a + 1) * 0xD1B54A32D192ED03ULL;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
  return z ^ z >> 31;
}

// 2^-8 .. 2^-7, exactly.
CDNA_HD float small_scale(std::uint64_t bits) { return static_cast<float>(0x100000U + (bits & 0xFFFFFU)) * 0x1p-28F; }

CDNA_HD unsigned code_at(const Recipe& recipe, std::uint32_t row, std::uint32_t column) {
  return static_cast<unsigned>(random_bits(recipe.seed, row, column) >> 33) & ((1U << recipe.preset.bits) - 1);
}
CDNA_HD float row_scale_at(const Recipe& recipe, std::uint32_t row) {
  return recipe.preset.row_scales ? small_scale(random_bits(recipe.seed + 1, row, 0)) : 1.0F;
}
CDNA_HD unsigned group_code_at(const Recipe& recipe, std::uint32_t row, std::uint32_t group) {
  return static_cast<unsigned>(random_bits(recipe.seed + 2, row, group) >> 40) & 0xFFU;
}
CDNA_HD float group_scale_at(const Recipe& recipe, std::uint32_t row, std::uint32_t group) {
  if (recipe.preset.group_scale_type == ScaleType::u8) return recipe.scale_table[group_code_at(recipe, row, group)];
  return 0x1p7F * small_scale(random_bits(recipe.seed + 2, row, group));
}

// What the code stands for: spec/format.md 13.2 without outliers. Products only, each rounded once.
CDNA_HD float decoded_at(const Recipe& recipe, std::uint32_t row, std::uint32_t column) {
  const float entry = widen_f16(recipe.codebook[code_at(recipe, row, column)]);
  float scale = row_scale_at(recipe, row);
  if (recipe.preset.group != 0) scale = group_scale_at(recipe, row, column / recipe.preset.group) * scale;
  return entry * scale;
}

CDNA_HD bool is_outlier(const Recipe& recipe, std::uint32_t row, std::uint32_t column) {
  const unsigned run = recipe.preset.outlier_columns;
  if (run == 0) return false;
  const std::uint64_t bits = random_bits(recipe.seed + 3, row, column / run);
  return (bits & 1U) != 0 && bits % 0x7FFFFFFFU % run == column % run;
}
CDNA_HD float outlier_at(const Recipe& recipe, std::uint32_t row, std::uint32_t column) {
  const std::uint64_t bits = random_bits(recipe.seed + 4, row, column);
  const float size = recipe.preset.huge_outliers ? 70000.0F : 4.0F + static_cast<float>(bits >> 60);
  return ((bits & 1U) != 0 ? -size : size) * row_scale_at(recipe, row);
}

CDNA_HD float value_at(const Recipe& recipe, std::uint32_t row, std::uint32_t column) {
  return is_outlier(recipe, row, column) ? outlier_at(recipe, row, column) : decoded_at(recipe, row, column);
}

// The matrix on the device.
class Matrix {
 public:
  Matrix(const Preset& preset, std::uint32_t rows, std::uint32_t cols, std::uint64_t seed);

  Weights weights() const;
  Recipe recipe() const;       // With the device's pointers.
  Recipe host_recipe() const;  // With the host's.
  std::size_t tile_count() const { return tiles_.bytes() / tile_bytes(preset_.bits); }
  // Codes, scales, outliers and the codebook: what a product has to read of it.
  std::size_t bytes() const;

 private:
  void make_tables();
  void make_outliers();

  Preset preset_;
  std::uint32_t rows_, cols_;
  std::uint64_t seed_;
  std::vector<std::uint16_t> host_codebook_, host_lines_;
  std::vector<float> host_scale_table_;
  DeviceArray<std::uint32_t> tiles_;
  DeviceArray<std::uint16_t> codebook_, lines_;
  DeviceArray<float> row_scales_;
  DeviceArray<unsigned char> group_scales_;
  DeviceArray<float> scale_table_;
  DeviceArray<std::uint32_t> outlier_begin_, outlier_places_;
  DeviceArray<float> outlier_values_, outlier_deltas_;
};

// A number that `type` holds exactly: a triangular distribution within +-4, times 1/4 to 4, depending on the row.
CDNA_HD float activation_at(Float type, std::uint64_t seed, std::uint32_t row, std::uint32_t column) {
  const std::uint64_t bits = random_bits(seed + 5, row, column);
  const unsigned width = type == Float::f16 ? 10 : type == Float::bf16 ? 7 : 23;
  const std::uint32_t mask = (1U << width) - 1;
  const auto a = static_cast<std::int32_t>(bits & mask);
  const auto b = static_cast<std::int32_t>(bits >> 32 & mask);
  return static_cast<float>(a - b) * (4.0F / static_cast<float>(1U << width)) * static_cast<float>(1U << row % 5) *
         0.25F;
}

// [m, cols] of `type` with rows `stride` elements apart, element 0 at `data`; what is around and between is NaN.
class Activations {
 public:
  Activations(Float type, std::uint32_t m, std::uint32_t cols, std::uint32_t gap, std::uint64_t seed);

  Float type() const { return type_; }
  std::uint32_t m() const { return m_; }
  std::uint64_t seed() const { return seed_; }
  std::int64_t stride() const { return stride_; }
  const void* data() const { return bytes_.data() + offset_ * size_of(type_); }

 private:
  Float type_;
  std::uint32_t m_;
  std::int64_t stride_;
  std::size_t offset_;
  std::uint64_t seed_;
  DeviceArray<unsigned char> bytes_;
};

// A number of `type` at an element of an array, as f32.
CDNA_HD float element(const void* array, Float type, std::uint64_t index) {
  if (type == Float::f32) return static_cast<const float*>(array)[index];
  const std::uint16_t bits = static_cast<const std::uint16_t*>(array)[index];
  if (type == Float::f16) return widen_f16(bits);
  union {
    std::uint32_t u;
    float f;
  } value{std::uint32_t{bits} << 16};
  return value.f;
}

inline const char* name_of(Float type) { return type == Float::f16 ? "f16" : type == Float::bf16 ? "bf16" : "f32"; }
inline const char* name_of(Loop loop) {
  return loop == Loop::automatic ? "automatic"
         : loop == Loop::stream  ? "stream"
         : loop == Loop::block   ? "block"
                                 : "wgmma";
}

}  // namespace cdna_cuda
