// Fuzz target: any bytes as an HXZC file and, behind it, the sidecar of its matrix: the planes decode to the values.
#include "fuzz/import_helix.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cdna::fuzz::check_helix(std::as_bytes(std::span(data, size)), cdna::open_hxzc);
  return 0;
}
