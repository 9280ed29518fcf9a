// Error::describe and the escaping of foreign text.
#include "cdna/error.hpp"

#include <cstring>

#include "libcdna/format/utf8.hpp"

namespace cdna {
namespace {

constexpr std::size_t kItemBytesMax = 1024;  // N1; a source file's name can be as long as its header.

// Control characters, what some take for the end of a line (U+2028, U+2029), and Unicode's Bidi_Control.
bool acts_on_terminals(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == 0x061C || c == 0x200E || c == 0x200F ||
         (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

void append_hex(std::string& out, std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  for (const char byte : bytes) {
    const auto value = static_cast<unsigned char>(byte);
    out += "\\x";
    out += kDigits[value >> 4];
    out += kDigits[value & 15];
  }
}

}  // namespace

std::string_view name_of(Code code) {
  switch (code) {
    case Code::not_cdna:
      return "not_cdna";
    case Code::truncated:
      return "truncated";
    case Code::corrupt:
      return "corrupt";
    case Code::root_mismatch:
      return "root_mismatch";
    case Code::malformed:
      return "malformed";
    case Code::unsupported:
      return "unsupported";
    case Code::limit:
      return "limit";
    case Code::io:
      return "io";
    case Code::no_memory:
      return "no_memory";
    case Code::exists:
      return "exists";
    case Code::not_found:
      return "not_found";
    case Code::bad_argument:
      return "bad_argument";
    case Code::cancelled:
      return "cancelled";
  }
  return "unknown";
}

std::string escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Char c = next_utf8(text);
    if (!c.valid || acts_on_terminals(c.value)) {
      append_hex(out, text.substr(0, c.size));
    } else if (c.value == U'\\') {
      out += "\\\\";
    } else {
      out += text.substr(0, c.size);
    }
    text.remove_prefix(c.size);
  }
  return out;
}

std::string Error::describe() const {
  std::string out;
  const auto part = [&out](std::string_view label, const std::string& value) {
    if (!out.empty()) out += ", ";
    out += label;
    out += value;
  };
  if (!file.empty()) part("", escape(file));
  const char* const rest = item.size() > kItemBytesMax ? "..." : "";
  if (!item.empty()) part("", "'" + escape(std::string_view(item).substr(0, kItemBytesMax)) + rest + "'");
  if (plane >= 0) part("plane ", std::to_string(plane));
  if (block >= 0) part("block ", std::to_string(block));
  if (offset != kNoOffset) part("at byte ", std::to_string(offset));
  if (!out.empty()) out += ": ";
  out += escape(message);
  if (os_errno != 0) {
    char text[128] = "";
    out += std::string(": ") + strerror_r(os_errno, text, sizeof text);
  }
  out += " [";
  out += name_of(code);
  if (*rule != '\0') out += std::string(" ") + rule;
  out += "]";
  return out;
}

}  // namespace cdna
