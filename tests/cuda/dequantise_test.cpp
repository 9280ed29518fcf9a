// What the device decodes is what the format says, bit for bit, against plain loops.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <map>

#include "device_array.hpp"
#include "kernels/cuda/emulator/emulator.h"
#include "kernels/cuda/pack.h"
#include "libcdna/format/float_bits.hpp"
#include "tests/random.hpp"

using namespace cdna_cuda;
using cdna::test::DeviceArray;
using cdna::test::Noise;

namespace {

struct Shape {
  std::uint32_t rows;
  std::uint32_t cols;
};

struct Kind {
  unsigned bits = 8;  // On the device.
  bool row_scales = true;
  std::uint32_t group = 0;
  ScaleType group_type = ScaleType::none;
  double outliers = 0;  // A share.
};

// A matrix with random everything, on the host and on the device.
class Matrix {
 public:
  Matrix(Shape shape, const Kind& kind, std::uint64_t seed);

  const Weights& weights() const { return weights_; }
  // spec/format.md 13.2, with products that are exact in f64 before they are rounded.
  float value(std::uint32_t row, std::uint32_t column) const;

 private:
  template <class T>
  const T* keep(const std::vector<T>& values) {
    auto array = std::make_shared<DeviceArray<T>>(values);
    kept_.push_back(array);
    return array->get();
  }
  void make_codes();
  void make_scales();
  void make_outliers();
  float group_scale(std::uint32_t row, std::uint32_t column) const;

  Shape shape_;
  Kind kind_;
  Noise noise_;
  Weights weights_;
  std::vector<std::shared_ptr<void>> kept_;
  std::vector<std::uint8_t> codes_;
  std::vector<std::uint16_t> codebook_;
  std::vector<float> row_scales_;
  std::vector<std::uint8_t> numbers_;  // Of group scales.
  std::vector<float> group_scales_;    // [rows, groups], or [256].
  std::map<std::pair<std::uint32_t, std::uint32_t>, float> outliers_;
};

Matrix::Matrix(Shape shape, const Kind& kind, std::uint64_t seed) : shape_(shape), kind_(kind), noise_(seed) {
  weights_.rows = shape.rows;
  weights_.cols = shape.cols;
  weights_.bits = static_cast<std::uint8_t>(kind.bits);
  make_codes();
  make_scales();
  make_outliers();
}

void Matrix::make_codes() {
  const unsigned bits = kind_.bits;
  for (std::size_t i = 0; i < std::size_t{1} << bits; ++i)
    codebook_.push_back(cdna::f16_of_f32(static_cast<float>(noise_.gaussian())));
  codebook_[0] = 1;  // The smallest subnormal number.
  codebook_[1] = 0x7BFF;
  codebook_[2] = 0x8000;
  weights_.codebook = keep(codebook_);
  for (std::size_t i = 0; i < std::size_t{shape_.rows} * shape_.cols; ++i)
    codes_.push_back(static_cast<std::uint8_t>(noise_.below(std::uint64_t{1} << bits)));
  std::vector<unsigned char> tiles(tiles_of_rows(shape_.rows) * tiles_of_columns(shape_.cols) * tile_bytes(bits));
  for (std::uint32_t row = 0; row < shape_.rows; ++row) {
    for (std::uint32_t first = 0; first < shape_.cols; first += kTileColumns) {
      for (unsigned t = 0; t < 4; ++t) {
        const unsigned lane = 4 * (row % 8) + t;
        const unsigned half = row % kTileRows / 8;
        std::uint8_t own[32] = {};
        for (unsigned i = 0; i < 32; ++i) {
          const std::uint32_t column = first + column_of({lane, half, i / 4, i % 4});
          if (column < shape_.cols) own[i] = codes_[std::size_t{row} * shape_.cols + column];
        }
        std::uint32_t words[8];
        pack_words(bits, own, words);
        const std::size_t tile = row / kTileRows * tiles_of_columns(shape_.cols) + first / kTileColumns;
        for (unsigned w = 0; w < bits; ++w)
          std::memcpy(tiles.data() + tile * tile_bytes(bits) + word_offset(bits, lane, word_place(bits, half, w)),
                      &words[w], 4);
      }
    }
  }
  weights_.tiles = keep(tiles);
}

void Matrix::make_scales() {
  if (kind_.row_scales) {
    for (std::uint32_t i = 0; i < shape_.rows; ++i) row_scales_.push_back(static_cast<float>(noise_.gaussian()));
    row_scales_[0] = 0x1p-130F;                   // Products below the smallest normal number.
    if (shape_.rows > 1) row_scales_[1] = 3e38F;  // And above the largest number.
    std::vector<float> padded = row_scales_;
    padded.resize(tiles_of_rows(shape_.rows) * kTileRows);
    weights_.row_scales = keep(padded);
  }
  if (kind_.group == 0) return;
  weights_.group = static_cast<std::uint16_t>(kind_.group);
  weights_.group_scale_type = kind_.group_type;
  const std::uint32_t groups = (shape_.cols + kind_.group - 1) / kind_.group;
  const std::uint32_t per_tile = kTileColumns / kind_.group;
  const bool numbered = kind_.group_type == ScaleType::u8;
  const std::size_t count = numbered ? 256 : std::size_t{shape_.rows} * groups;
  for (std::size_t i = 0; i < count; ++i) group_scales_.push_back(static_cast<float>(noise_.gaussian()));
  for (std::size_t i = 0; i < std::size_t{shape_.rows} * groups; ++i)
    numbers_.push_back(static_cast<std::uint8_t>(noise_.below(256)));
  const std::size_t places = tiles_of_rows(shape_.rows) * tiles_of_columns(shape_.cols) * kTileRows * per_tile;
  std::vector<std::uint8_t> number_places(places);
  std::vector<float> scale_places(places);
  for (std::uint32_t row = 0; row < shape_.rows; ++row) {
    for (std::uint32_t g = 0; g < groups; ++g) {
      const std::size_t tile = row / kTileRows * tiles_of_columns(shape_.cols) + g / per_tile;
      const std::size_t place = (tile * kTileRows + row % kTileRows) * per_tile + g % per_tile;
      number_places[place] = numbers_[std::size_t{row} * groups + g];
      if (!numbered) scale_places[place] = group_scales_[std::size_t{row} * groups + g];
    }
  }
  if (numbered) {
    weights_.group_scales = keep(number_places);
    weights_.scale_table = keep(group_scales_);
  } else {
    weights_.group_scales = keep(scale_places);
  }
}

void Matrix::make_outliers() {
  if (kind_.outliers == 0) return;
  std::vector<std::uint32_t> begin{0};
  std::vector<std::uint32_t> places;
  std::vector<float> values;
  for (std::uint32_t row = 0; row < shape_.rows; row += kTileRows) {
    for (std::uint32_t first = 0; first < shape_.cols; first += kTileColumns) {
      for (std::uint32_t column = first; column < std::min(first + kTileColumns, shape_.cols); ++column) {
        for (std::uint32_t r = row; r < std::min(row + kTileRows, shape_.rows); ++r) {
          if (noise_.unit() >= kind_.outliers) continue;
          const auto value = static_cast<float>(noise_.gaussian() * 100);
          outliers_[{r, column}] = value;
          places.push_back(column << 4 | r % kTileRows);
          values.push_back(value);
        }
      }
      begin.push_back(static_cast<std::uint32_t>(places.size()));
    }
  }
  weights_.outlier_begin = keep(begin);
  weights_.outlier_places = keep(places);
  weights_.outlier_values = keep(values);
  weights_.outlier_deltas = weights_.outlier_values;  // Has to be there; is not used here.
  if (values.empty()) weights_.outlier_begin = nullptr;
}

float Matrix::group_scale(std::uint32_t row, std::uint32_t column) const {
  const std::uint32_t groups = (shape_.cols + kind_.group - 1) / kind_.group;
  const std::size_t index = std::size_t{row} * groups + column / kind_.group;
  return kind_.group_type == ScaleType::u8 ? group_scales_[numbers_[index]] : group_scales_[index];
}

float product(float a, float b) {
  const auto value = static_cast<float>(static_cast<double>(a) * static_cast<double>(b));
  return std::isnan(value) ? std::bit_cast<float>(cdna::kProductNan) : value;
}

float Matrix::value(std::uint32_t row, std::uint32_t column) const {
  if (const auto outlier = outliers_.find({row, column}); outlier != outliers_.end()) return outlier->second;
  const float entry = cdna::f32_of_f16(codebook_[codes_[std::size_t{row} * shape_.cols + column]]);
  if (kind_.group != 0 && kind_.row_scales) return product(entry, product(group_scale(row, column), row_scales_[row]));
  if (kind_.group != 0) return product(entry, group_scale(row, column));
  return kind_.row_scales ? product(entry, row_scales_[row]) : entry;
}

constexpr unsigned char kUntouched = 0xA5;

// Rows [begin, end) as a type of `Bits` that `round` makes, in memory `offset` elements behind an aligned place.
template <class Bits, class Round>
void check_rows(const Matrix& matrix, std::uint32_t begin, std::uint32_t end, Float type, std::uint32_t gap,
                std::size_t offset, Round round) {
  const std::uint32_t cols = matrix.weights().cols;
  const std::uint32_t stride = cols + gap;
  DeviceArray<Bits> out(std::size_t{end - begin} * stride + offset + 8);
  out.fill(kUntouched);
  Dequantise call;
  call.weights = matrix.weights();
  call.row_begin = begin;
  call.row_end = end;
  call.out = out.get() + offset;
  call.type = type;
  call.stride = stride;
  const Outcome outcome = dequantise(call, nullptr);
  INFO(outcome.reason);
  REQUIRE(outcome.status == Status::ok);
  cdna::test::must_succeed(cudaDeviceSynchronize());
  Bits untouched;
  std::memset(&untouched, kUntouched, sizeof untouched);
  std::vector<Bits> expected(std::size_t{end - begin} * stride + offset + 8, untouched);
  for (std::uint32_t row = begin; row < end; ++row) {
    for (std::uint32_t column = 0; column < cols; ++column)
      expected[std::size_t{row - begin} * stride + offset + column] = round(matrix.value(row, column));
  }
  CHECK(out.values() == expected);
}

void check_all_types(const Matrix& matrix, std::uint32_t begin, std::uint32_t end, std::uint32_t gap,
                     std::size_t offset) {
  CAPTURE(begin, end, gap, offset);
  check_rows<std::uint32_t>(matrix, begin, end, Float::f32, gap, offset,
                            [](float value) { return std::bit_cast<std::uint32_t>(value); });
  check_rows<std::uint16_t>(matrix, begin, end, Float::f16, gap, offset, cdna::f16_of_f32);
  check_rows<std::uint16_t>(matrix, begin, end, Float::bf16, gap, offset, cdna::bf16_of_f32);
}

}  // namespace

TEST_CASE("dequantise: every width, scale and shape gives the format's bits") {
  const Kind kinds[] = {{},
                        {8, false, 0, ScaleType::none, 0},
                        {8, true, 64, ScaleType::u8, 0.01},
                        {8, true, 0, ScaleType::none, 0.05},
                        {8, false, 128, ScaleType::f32, 0.01},
                        {8, true, 32, ScaleType::f32, 0}};
  std::uint64_t seed = 0;
  for (const unsigned bits : {4U, 5U, 6U, 8U}) {
    for (Kind kind : kinds) {
      kind.bits = bits;
      for (const Shape shape : {Shape{1, 1}, {16, 128}, {19, 261}, {33, 130}}) {
        CAPTURE(bits, kind.group, kind.row_scales, kind.outliers, shape.rows, shape.cols);
        check_all_types(Matrix(shape, kind, ++seed), 0, shape.rows, 0, 0);
      }
    }
  }
  CHECK(emulator::leaks().empty());
  CHECK(emulator::failure().empty());
}

TEST_CASE("dequantise: rows from anywhere to anywhere, with gaps, at any alignment") {
  for (const unsigned bits : {4U, 5U, 6U, 8U}) {
    CAPTURE(bits);
    const Matrix matrix({50, 200}, {bits, true, 32, ScaleType::u8, 0.02}, bits);
    for (const auto& [begin, end] : {std::pair{0U, 50U}, {1U, 2U}, {15U, 17U}, {17U, 48U}, {49U, 50U}, {20U, 20U}})
      check_all_types(matrix, begin, end, begin % 3, end % 5);
  }
}

TEST_CASE("dequantise: what cannot be is refused before anything is launched") {
  const Matrix matrix({20, 40}, {}, 1);
  DeviceArray<float> out(20 * 40);
  const auto status = [&](auto change) {
    Dequantise call;
    call.weights = matrix.weights();
    call.row_end = 20;
    call.out = out.get();
    call.type = Float::f32;
    call.stride = 40;
    change(call);
    return dequantise(call, nullptr).status;
  };
  const std::uint64_t launches = emulator::counts().launches;
  CHECK(status([](Dequantise& call) { call.row_end = 21; }) == Status::bad_argument);
  CHECK(status([](Dequantise& call) { call.row_begin = 20, call.row_end = 19; }) == Status::bad_argument);
  CHECK(status([](Dequantise& call) { call.stride = 39; }) == Status::bad_argument);
  CHECK(status([](Dequantise& call) { call.out = nullptr; }) == Status::bad_argument);
  CHECK(status([&](Dequantise& call) { call.out = reinterpret_cast<char*>(out.get()) + 2; }) == Status::bad_argument);
  CHECK(status([](Dequantise& call) { call.weights.bits = 7; }) == Status::unsupported);
  CHECK(status([](Dequantise& call) { call.weights.curve = Curve::pwl; }) == Status::bad_argument);  // Without lines.
  CHECK(status([](Dequantise& call) { call.row_begin = 20; }) == Status::ok);
  CHECK(emulator::counts().launches == launches);
}
