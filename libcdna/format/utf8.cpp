// UTF-8 decoding by the table of RFC 3629, section 4.
#include "libcdna/format/utf8.hpp"

namespace cdna {
namespace {

struct Lead {
  std::size_t size;
  unsigned char second_min, second_max;  // Bounds of the second byte; these exclude overlong forms and surrogates.
};

Lead lead_of(unsigned char byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Utf8Char next_utf8(std::string_view text) {
  const auto at = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const Lead lead = lead_of(at(0));
  if (lead.size == 0 || lead.size > text.size()) return {};
  if (lead.size == 1) return {at(0), 1, true};
  if (at(1) < lead.second_min || at(1) > lead.second_max) return {};
  char32_t value = static_cast<char32_t>(at(0) & (0xFFU >> (lead.size + 1)));
  for (std::size_t i = 1; i < lead.size; ++i) {
    if ((at(i) & 0xC0U) != 0x80U) return {};
    value = (value << 6) | (at(i) & 0x3FU);
  }
  return {value, lead.size, true};
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const Utf8Char c = next_utf8(text);
    if (!c.valid) return false;
    text.remove_prefix(c.size);
  }
  return true;
}

}  // namespace cdna
