// UTF-8, one character at a time, as RFC 3629 has it: no surrogates, no overlong forms.
#pragma once

#include <cstddef>
#include <string_view>

namespace cdna {

struct Utf8Char {
  char32_t value = 0;
  std::size_t size = 1;  // Bytes consumed; 1 when invalid.
  bool valid = false;
};

// Requires: !text.empty().
Utf8Char next_utf8(std::string_view text);

bool is_utf8(std::string_view text);

}  // namespace cdna
