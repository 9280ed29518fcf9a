// Fuzz target: any bytes as an .npy file: what is accepted can be read, in pieces as in a whole.
#include "fuzz/import_flat.hpp"
#include "libcdna/import/numpy/numpy_model.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  cdna::fuzz::check_model(cdna::open_npy_model(cdna::memory_source(file, false), "array"));
  return 0;
}
