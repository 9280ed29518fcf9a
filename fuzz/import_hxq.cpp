// Fuzz target: any bytes as an HXQ checkpoint: what is accepted decodes, in parts and as planes alike.
#include <cstring>
#include <string>
#include <vector>

#include "fuzz/codes.hpp"
#include "fuzz/open_file.hpp"
#include "libcdna/import/helix/hxq.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cdna;
  const auto given = std::as_bytes(std::span(data, size));
  auto checkpoint = open_safetensors(memory_source(given, false));
  if (!checkpoint || !has_hxq_modules(**checkpoint)) return 0;
  ModelOptions options;
  if (size % 8 == 0) options.shapes = {"*=2x*"};
  const auto model = open_hxq(*std::move(checkpoint), "", false, options, posix_file_system());
  if (!model) {
    fuzz::require(model.error().code < Code::io, "a refusal is a property of the file");
    fuzz::require(!model.error().describe().empty(), "a refusal says what is wrong");
    return 0;
  }
  fuzz::check_codes(**model, size);
  return 0;
}
