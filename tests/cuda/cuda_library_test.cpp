// The tools' side of libcdna_cuda: what becomes of its errors.
#include "tools/cuda_library.hpp"

#include <catch2/catch.hpp>
#include <cstring>

using namespace cdna;
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
