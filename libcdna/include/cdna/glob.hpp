// Shell patterns for the names of tensors.
#pragma once

#include <string>
#include <string_view>

namespace cdna {

// Whether a shell pattern fits a whole name, both taken byte by byte: `*` any bytes, `?` one byte, `[a-c]`, `[!a-c]`,
// and `\` before a byte that stands for itself (fnmatch of POSIX without flags, in the C locale).
bool matches_glob(const std::string& pattern, std::string_view name);

}  // namespace cdna
