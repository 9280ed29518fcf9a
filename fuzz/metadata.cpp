// Fuzz target: any bytes as the content of a metadata item. Metadata has one form: what is accepted is written back
// alike.
#include "libcdna/format/metadata.hpp"

#include <algorithm>
#include <string_view>
#include <vector>

#include "fuzz/open_file.hpp"
#include "libcdna/format/wire.hpp"

namespace {

using namespace cdna;
using fuzz::require;
using Bytes = std::vector<std::byte>;

constexpr std::size_t kCountAt = 28;  // spec/format.md, section 14: the first place p at or after 28 with p mod 8 = 4.
constexpr std::size_t kEntriesAt = 32;  // After the count.

// Counted from the bytes, not by the parser.
bool all_types_known(std::span<const std::byte> bytes) {
  const auto count = load<std::uint32_t>(bytes.subspan(kCountAt));
  for (std::uint32_t i = 0; i < count; ++i) {
    if (load<wire::KeyValue>(bytes.subspan(kEntriesAt + i * sizeof(wire::KeyValue))).type() > 7) return false;
  }
  return true;
}

void check_verifier(const Bytes& bytes) {
  flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  require(verifier.VerifyBuffer<wire::Metadata>("CDNM"), "accepted metadata passes the FlatBuffers verifier");
}

void check_accepted(const Bytes& bytes, const Metadata& metadata) {
  check_verifier(bytes);
  const auto written = append_metadata(metadata);
  require(written.has_value(), "what was read can be written");
  if (all_types_known(bytes)) {
    require(*written == bytes, "metadata of known types has one form");
    return;
  }
  const auto again = parse_metadata(*written);
  require(again && append_metadata(*again).has_value() && *append_metadata(*again) == *written,
          "without unknown types it has one form");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto given = std::as_bytes(std::span(data, size));
  const Bytes bytes(given.begin(), given.end());
  const auto metadata = parse_metadata(bytes);
  if (metadata) {
    check_accepted(bytes, *metadata);
    return 0;
  }
  const std::string_view rule = metadata.error().rule;
  require(metadata.error().code == Code::malformed && (rule == "M2" || rule == "M3" || rule == "M4" || rule == "M5"),
          "refused metadata breaks a rule of section 14");
  require(metadata.error().offset <= size, "the offset lies within the metadata");
  return 0;
}
