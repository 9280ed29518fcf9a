// Files that people pass to convert by mistake, told by their first bytes.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace cdna {

inline constexpr std::size_t kForeignHeadBytes = 64;  // What describe_foreign_format wants to see.

// What a file is that begins with `head`, and what to do about it; "" when unknown. Requires: it is not safetensors,
// whose first bytes are a length and can look like anything.
std::string_view describe_foreign_format(std::span<const std::byte> head);

}  // namespace cdna
