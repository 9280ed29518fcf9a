// Tensors of which a part is not like the rest: rows or groups that a sample could miss, values far from zero.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cdna/encode.hpp"
#include "codebook_file.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kSeed = 20261121;

struct Uneven {
  const char* name;
  std::uint64_t rows, cols;
  std::function<double(std::uint64_t row, std::uint64_t column, Noise&)> value;
};

EncodedMatrix encoded(const Uneven& tensor, const CodebookOptions& options) {
  Noise noise(kSeed);
  std::vector<float> values;
  for (std::uint64_t row = 0; row < tensor.rows; ++row) {
    for (std::uint64_t column = 0; column < tensor.cols; ++column)
      values.push_back(static_cast<float>(tensor.value(row, column, noise)));
  }
  return must(encode(DType::f32, tensor.rows, tensor.cols, std::as_bytes(std::span(values)), options));
}

}  // namespace

TEST_CASE("uneven tensors: no regular structure hides from the sample of group scales") {
  const std::vector<Uneven> tensors{
      {"first half zero", 1000, 1024, [](auto row, auto, Noise& n) { return row < 512 ? 0.0 : n.gaussian(); }},
      {"first half of one size", 1000, 1024,
       [](auto row, auto column, Noise& n) { return row < 512 ? (column % 2 == 0 ? 0.02 : -0.02) : n.gaussian(); }},
      {"every 8th row constant", 1024, 4096,
       [](auto row, auto, Noise& n) { return row % 8 == 0 ? 0.01 : n.gaussian(); }},
      {"every 8th row zero", 1024, 4096, [](auto row, auto, Noise& n) { return row % 8 == 0 ? 0.0 : n.gaussian(); }},
      {"all but one row in 300 of one size", 4096, 512,
       [](auto row, auto column, Noise& n) { return row % 300 == 7    ? n.gaussian()
                                                    : column % 2 == 0 ? 1.0
                                                                      : -1.0; }},
      {"every 16th group zero", 2, 1'000'000,
       [](auto, auto column, Noise& n) { return column / 64 % 16 == 0 ? 0.0 : n.gaussian(); }},
  };
  for (const Uneven& tensor : tensors) {
    for (const auto& [preset, least_db] : {std::pair{"cb8g64", 43.0}, {"cb6g64", 31.0}, {"cb4g32", 20.0}}) {
      const EncodedMatrix matrix = encoded(tensor, must(parse_preset(preset)).codebook);
      INFO(tensor.name << ", " << preset << ", seed " << kSeed << ": " << matrix.statistics.snr_db() << " dB");
      CHECK(matrix.statistics.snr_db() >= least_db);
    }
  }
}

TEST_CASE("uneven tensors: a row unlike all that the sample has seen keeps 20 dB of its own") {
  const Uneven tensor{"one gaussian row", 4096, 512, [](auto row, auto column, Noise& n) {
                        return row == 2222 ? n.gaussian() : column % 2 == 0 ? 1.0 : -1.0;
                      }};
  for (const char* const preset : {"cb8g64", "cb6g64"}) {
    const EncodedMatrix matrix = encoded(tensor, must(parse_preset(preset)).codebook);
    INFO(preset << ", seed " << kSeed);
    CHECK(matrix.statistics.sum_squared_error <= 0.01 * 512);  // All others are exact.
  }
}

TEST_CASE("uneven tensors: outliers do not take part in the choice of scales") {
  const std::vector<Uneven> tensors{
      {"uniform in 1 .. 2", 512, 640, [](auto, auto, Noise& n) { return 1 + n.unit(); }},
      {"lognormal", 512, 640, [](auto, auto, Noise& n) { return std::exp(0.1 * n.gaussian()); }},
      {"100 + gaussian", 512, 640, [](auto, auto, Noise& n) { return 100 + n.gaussian(); }},
  };
  for (const Uneven& tensor : tensors) {
    for (const char* const preset : {"cb8", "cb6g64", "cb4g32"}) {
      CodebookOptions options = must(parse_preset(preset)).codebook;
      options.outlier_fraction = 0;
      const double without = encoded(tensor, options).statistics.snr_db();
      for (const double fraction : {0.001, 0.01}) {
        options.outlier_fraction = fraction;
        const double with = encoded(tensor, options).statistics.snr_db();
        INFO(tensor.name << ", " << preset << ", " << fraction << ", seed " << kSeed << ": " << without << ", "
                         << with);
        CHECK(with >= without - 0.1);
      }
    }
  }
}

TEST_CASE("uneven tensors: kurtosis is right however far the mean is from zero") {
  for (const double mean : {0.0, 1.0, 100.0, 1e5, -3e6}) {
    Noise noise(kSeed);
    std::vector<float> values;
    for (int i = 0; i < 300 * 700; ++i) values.push_back(static_cast<float>(mean + noise.student(6)));
    long double sum = 0;
    for (const float value : values) sum += static_cast<long double>(value);
    const long double center = sum / static_cast<long double>(values.size());
    long double second = 0;
    long double fourth = 0;
    for (const float value : values) {
      const long double square =
          (static_cast<long double>(value) - center) * (static_cast<long double>(value) - center);
      second += square;
      fourth += square * square;
    }
    const long double expected = fourth * static_cast<long double>(values.size()) / (second * second) - 3;
    for (const char* const preset : {"cb8", "cb4g32"}) {
      const EncodedMatrix matrix =
          must(encode(DType::f32, 300, 700, std::as_bytes(std::span(values)), must(parse_preset(preset)).codebook, 2));
      INFO(preset << ", mean " << mean << ", seed " << kSeed);
      CHECK(std::abs(matrix.statistics.excess_kurtosis - static_cast<double>(expected)) <=
            1e-9 * (3 + std::abs(static_cast<double>(expected))));
    }
  }
}
