// Fuzz target: any bytes as a CDNA file; the last byte chooses the order of the calls.
#include "fuzz/open_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cdna::fuzz::check_input(data, size);
  return 0;
}
