// The version of the library.
#pragma once

#include <string_view>

namespace cdna {

inline constexpr std::string_view kLibraryVersion = "0.1.0";
inline constexpr std::string_view kWriterName = "libcdna 0.1.0";  // What goes into a file as cdna.writer.

}  // namespace cdna
