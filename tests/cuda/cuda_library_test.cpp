// The tools' side of libcdna_cuda, loaded as they do: CDNA_CUDA_LIBRARY, the real or an emulated one.
#include "tools/cuda_library.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "cdna/reader.hpp"
#include "sample_model.hpp"
#include "tests/matmul_reference.hpp"
#include "tests/temporary_folder.hpp"

using namespace cdna;
using namespace cdna::test;
using namespace cdna::tools;

TEST_CASE("cuda library: an error keeps its place, its message and any rule") {
  cdna_cuda_error given{};
  given.code = CDNA_CUDA_MALFORMED;
  given.plane = 2;
  given.block = 5;
  given.offset = 4096;
  std::strcpy(given.tensor, "w");
  std::strcpy(given.message, "out of order: /models/a.cdna");
  for (const char* const rule : {"D1", "D3", "T13", "", "F2", "D1"}) {
    std::strcpy(given.rule, rule);
    const Error error = error_of(given);
    std::strcpy(given.rule, "?");  // The error does not depend on it.
    CHECK(std::string(error.rule) == rule);
    CHECK(error.code == Code::malformed);
    CHECK(error.item == "w");
    CHECK(error.message == "out of order: /models/a.cdna");
    CHECK(error.plane == 2);
    CHECK(error.block == 5);
    CHECK(error.offset == 4096);
  }
  given.code = CDNA_CUDA_DEVICE;
  CHECK(error_of(given).code == Code::io);
}

TEST_CASE("cuda library: what is loaded refuses devices, uploads, and multiplies") {
  const CudaLibrary library = must(CudaLibrary::load());
  cdna_cuda_error error{};
  CHECK(library.device_supported(-1, &error) == CDNA_CUDA_NOT_FOUND);
  CHECK(error_of(error).code == Code::not_found);
  REQUIRE(library.device_supported(0, &error) == CDNA_CUDA_OK);

  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, small_model_bytes());
  cdna_cuda_model* model = nullptr;
  REQUIRE(library.upload(path.c_str(), nullptr, nullptr, &model, &error) == CDNA_CUDA_OK);
  std::uint64_t number = 0;
  CHECK(library.find(model, "v", &number, &error) == CDNA_CUDA_NOT_FOUND);
  CHECK(error_of(error).item == "v");
  REQUIRE(library.find(model, "w", &number, &error) == CDNA_CUDA_OK);

  const Reader reader = must(Reader::open(path));
  const Tensor tensor = *reader.find("w");
  std::vector<float> w(tensor.rows() * tensor.cols());
  must_do(tensor.read_rows(0, tensor.rows(), DType::f32, std::as_writable_bytes(std::span(w))));
  const std::vector<cdna_cuda_segment> segments{{number, nullptr, 0}};
  for (const std::uint64_t column : {std::uint64_t{0}, std::uint64_t{77}, tensor.cols() - 1}) {
    std::vector<float> x(tensor.cols());
    x[column] = 1;
    std::vector<float> y(tensor.rows());
    const cdna_cuda_linear_call call = linear_call(segments, x, 1, y, static_cast<std::int64_t>(tensor.rows()));
    REQUIRE(library.linear_host(model, &call, nullptr, &error) == CDNA_CUDA_OK);
    for (std::uint64_t row = 0; row < tensor.rows(); ++row) {
      CAPTURE(row, column);
      const double expected = w[row * tensor.cols() + column];
      CHECK(std::abs(static_cast<double>(y[row]) - expected) <= 0x1p-20 * std::abs(expected));
    }
  }
  library.free(model);
}
