// Rules N1..N4.
#include "libcdna/format/names.hpp"

#include "libcdna/format/utf8.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::size_t kNameBytesMax = 1024;
constexpr std::size_t kTypeBytesMax = 255;

// What nearly all names are, and what opening a file of many tensors would else spend most of its time on.
bool is_printable_ascii(std::string_view text) {
  bool printable = true;
  for (const char c : text) printable &= c >= 0x20 && c <= 0x7E;
  return printable;
}

bool has_control_character(std::string_view text) {
  while (!text.empty()) {
    const Utf8Char c = next_utf8(text);
    if (c.value < 0x20 || (c.value >= 0x7F && c.value <= 0x9F)) return true;
    text.remove_prefix(c.size);
  }
  return false;
}

}  // namespace

Result<void> check_name(std::string_view name) {
  CDNA_CHECK(!name.empty() && name.size() <= kNameBytesMax, Code::malformed, "N1",
             "the name does not have 1 to 1024 bytes");
  if (is_printable_ascii(name)) return {};
  CDNA_CHECK(is_utf8(name), Code::malformed, "N2", "the name is not valid UTF-8");
  CDNA_CHECK(!has_control_character(name), Code::malformed, "N3", "the name holds a control character");
  return {};
}

Result<void> check_type(std::string_view type) {
  CDNA_CHECK(type.size() <= kTypeBytesMax, Code::malformed, "N4", "the encoding name or media type has over 255 bytes");
  for (const char c : type) {
    CDNA_CHECK(c >= 0x20 && c <= 0x7E, Code::malformed, "N4", "the encoding name or media type is not printable ASCII");
  }
  return {};
}

}  // namespace cdna
